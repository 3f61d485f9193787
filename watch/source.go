// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"iter"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/policy"
)

// Source is where a cluster's objects come from: an apiserver.Source or a folder.Source.
type Source interface {
	// Run feeds sink until ctx ends, and then returns nil. It returns an error only if it cannot go on: temporary
	// problems, such as an API server that is away or a manifest that does not parse, are logged, and the last state
	// stays.
	Run(ctx context.Context, sink Sink) error
}

// Sink receives what a source has. Its methods may be called by several goroutines at once.
type Sink interface {
	// Update calls edit immediately, with objects that are valid until edit returns. One edit is one event: what
	// belongs together, such as the objects of one file, is never seen in part.
	Update(edit func(Objects))

	// Away says that the source does not answer, and why, so that its objects may be stale; nil says that it answers
	// again. Repeated calls are fine.
	Away(err error)

	// Synced says that all pods, namespaces and policies have been sent once. A source calls it once.
	Synced()
}

// Objects are the cluster's objects. Setting an unchanged object, or deleting a missing one, changes nothing. The
// receiver owns its arguments: a source does not change them afterwards.
type Objects interface {
	SetPod(policy.Pod)
	DeletePod(types.NamespacedName)
	SetNamespace(name string, labels map[string]string)
	SetNamespaceMode(name string, annotations map[string]string) // only [policy.ModeAnnotation] counts
	DeleteNamespace(name string)
	SetPolicy(*networkingv1.NetworkPolicy)
	DeletePolicy(types.NamespacedName)
	SetNode(name string, podCIDRs []netip.Prefix) // its spec.podCIDRs; none if it is gone

	SetClusterPolicy(policy.ClusterPolicy)
	DeleteClusterPolicy(name string)
	SetNodePeer(policy.NodePeer) // only if a ClusterNetworkPolicy needs it
	DeleteNodePeer(name string)

	// The names of all objects; without a namespace, only Name is set.
	Pods() iter.Seq[types.NamespacedName]
	Namespaces() iter.Seq[types.NamespacedName]
	Policies() iter.Seq[types.NamespacedName]
	ClusterPolicies() iter.Seq[types.NamespacedName]
	NodePeers() iter.Seq[types.NamespacedName]
}
