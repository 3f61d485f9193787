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
	// Run feeds sink until ctx ends, and returns nil then. It returns an error only when it cannot go on: what passes
	// by itself, as an API server that is away or a manifest that does not parse, is logged and the last state stays.
	Run(ctx context.Context, sink Sink) error
}

// Sink takes what a source tells. Its methods may be called by several goroutines at once.
type Sink interface {
	// Update calls edit at once, with objects that are valid until edit returns. All that one edit does is one event:
	// what belongs together, as the objects of one file, is never seen in part.
	Update(edit func(Objects))

	// Away says that the source does not answer, and why, so that its objects may be old; nil says that it answers
	// again. It may be called with the same again.
	Away(err error)

	// Synced says that pods, namespaces and policies have all been told once. A source calls it once.
	Synced()
}

// Objects are the cluster's objects. To set an object as it is, or to delete one that is not there, changes nothing.
// What is given is the receiver's: a source does not change it afterwards.
type Objects interface {
	SetPod(policy.Pod)
	DeletePod(types.NamespacedName)
	SetNamespace(name string, labels map[string]string)
	SetNamespaceMode(name string, annotations map[string]string) // of them [policy.ModeAnnotation] counts
	DeleteNamespace(name string)
	SetPolicy(*networkingv1.NetworkPolicy)
	DeletePolicy(types.NamespacedName)
	SetNode(name string, podCIDRs []netip.Prefix) // its spec.podCIDRs; none if it is gone

	SetClusterPolicy(policy.ClusterPolicy)
	DeleteClusterPolicy(name string)
	SetNodePeer(policy.NodePeer) // told where a ClusterNetworkPolicy needs it
	DeleteNodePeer(name string)

	// The names of all there are; of what is in no namespace, the name is in Name.
	Pods() iter.Seq[types.NamespacedName]
	Namespaces() iter.Seq[types.NamespacedName]
	Policies() iter.Seq[types.NamespacedName]
	ClusterPolicies() iter.Seq[types.NamespacedName]
	NodePeers() iter.Seq[types.NamespacedName]
}
