// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
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

// object is one object of a manifest.
type object struct {
	key   objectKey
	at    Error // where it is
	value any   // a policy.Pod, *networkingv1.NetworkPolicy, policy.ClusterPolicy, namespace or node
}

// namespace is the value of a namespace.
type namespace struct{ labels, mode map[string]string }

// node is the value of a node.
type node struct {
	cidrs []netip.Prefix
	peer  policy.NodePeer
}

// set sets the object in objects.
func (o *object) set(objects watch.Objects) {
	switch v := o.value.(type) {
	case policy.Pod:
		objects.SetPod(v)
	case namespace:
		objects.SetNamespace(o.key.Name, v.labels)
		objects.SetNamespaceMode(o.key.Name, v.mode)
	case *networkingv1.NetworkPolicy:
		objects.SetPolicy(v)
	case node:
		objects.SetNode(o.key.Name, v.cidrs)
		objects.SetNodePeer(v.peer)
	case policy.ClusterPolicy:
		objects.SetClusterPolicy(v)
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
