// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// objectKind is a kind that matters to policy.
type objectKind string

const (
	kindPod       objectKind = "Pod"
	kindNamespace objectKind = "Namespace"
	kindPolicy    objectKind = "NetworkPolicy"
	kindNode      objectKind = "Node"
	kindTier      objectKind = "ClusterNetworkPolicy"
)

// inNamespace says whether objects of the kind are in namespaces.
func (k objectKind) inNamespace() bool { return k == kindPod || k == kindPolicy }

// apiVersion is the only version in which a kind is read.
func (k objectKind) apiVersion() string {
	switch k {
	case kindPolicy:
		return "networking.k8s.io/v1"
	case kindTier:
		return v1alpha2.GroupVersion.String()
	}
	return "v1"
}

// word returns the kind as errors name it.
func (k objectKind) word() string {
	if k == kindPolicy || k == kindTier {
		return string(k)
	}
	return strings.ToLower(string(k))
}

// objectKey names an object.
type objectKey struct {
	kind objectKind
	types.NamespacedName
}

// String returns the key as errors name it.
func (k objectKey) String() string {
	if !k.kind.inNamespace() {
		return k.kind.word() + " " + k.Name
	}
	return k.kind.word() + " " + k.NamespacedName.String()
}

// object is one object of a manifest. Its key's kind says which is set: pod, labels (of a namespace), policy, tier, or
// cidrs and node.
type object struct {
	key    objectKey
	at     Error // where it is
	pod    policy.Pod
	labels map[string]string
	mode   map[string]string // of a namespace
	policy *networkingv1.NetworkPolicy
	tier   policy.ClusterPolicy
	cidrs  []netip.Prefix
	node   policy.NodePeer
}

// equal says whether policy sees no difference between o and p.
func (o *object) equal(p *object) bool {
	switch o.key.kind {
	case kindPod:
		return reflect.DeepEqual(o.pod, p.pod)
	case kindNamespace:
		return maps.Equal(o.labels, p.labels) && maps.Equal(o.mode, p.mode)
	case kindNode:
		return slices.Equal(o.cidrs, p.cidrs) && reflect.DeepEqual(o.node, p.node)
	case kindTier:
		return reflect.DeepEqual(o.tier, p.tier)
	}
	return equality.Semantic.DeepEqual(o.policy.Spec, p.policy.Spec) &&
		maps.Equal(o.policy.Annotations, p.policy.Annotations)
}

// set sets the object in objects.
func (o *object) set(objects watch.Objects) {
	switch o.key.kind {
	case kindPod:
		objects.SetPod(o.pod)
	case kindNamespace:
		objects.SetNamespace(o.key.Name, o.labels)
		objects.SetNamespaceMode(o.key.Name, o.mode)
	case kindPolicy:
		objects.SetPolicy(o.policy)
	case kindNode:
		objects.SetNode(o.key.Name, o.cidrs)
		objects.SetNodePeer(o.node)
	case kindTier:
		objects.SetClusterPolicy(o.tier)
	}
}

// remove deletes the object with the key.
func (k objectKey) remove(objects watch.Objects) {
	switch k.kind {
	case kindPod:
		objects.DeletePod(k.NamespacedName)
	case kindNamespace:
		objects.DeleteNamespace(k.Name)
	case kindPolicy:
		objects.DeletePolicy(k.NamespacedName)
	case kindNode:
		objects.SetNode(k.Name, nil)
		objects.DeleteNodePeer(k.Name)
	case kindTier:
		objects.DeleteClusterPolicy(k.Name)
	}
}
