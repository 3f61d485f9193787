// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"maps"
	"reflect"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// objectKind is a kind that policy is made of.
type objectKind string

const (
	kindPod       objectKind = "Pod"
	kindNamespace objectKind = "Namespace"
	kindPolicy    objectKind = "NetworkPolicy"
)

// apiVersion is the only one that a kind is read in.
func (k objectKind) apiVersion() string {
	if k == kindPolicy {
		return "networking.k8s.io/v1"
	}
	return "v1"
}

// word returns the kind as errors name it.
func (k objectKind) word() string {
	if k == kindPolicy {
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
	if k.kind == kindNamespace {
		return k.kind.word() + " " + k.Name
	}
	return k.kind.word() + " " + k.NamespacedName.String()
}

// object is one object of a manifest: one of pod, labels of a namespace, and policy, as its key says.
type object struct {
	key    objectKey
	at     Error // where it is
	pod    policy.Pod
	labels map[string]string
	policy *networkingv1.NetworkPolicy
}

// equal says whether o is, to policy, what p is.
func (o *object) equal(p *object) bool {
	switch o.key.kind {
	case kindPod:
		return reflect.DeepEqual(o.pod, p.pod)
	case kindNamespace:
		return maps.Equal(o.labels, p.labels)
	}
	return equality.Semantic.DeepEqual(o.policy.Spec, p.policy.Spec)
}

// set gives the object to objects.
func (o *object) set(objects watch.Objects) {
	switch o.key.kind {
	case kindPod:
		objects.SetPod(o.pod)
	case kindNamespace:
		objects.SetNamespace(o.key.Name, o.labels)
	case kindPolicy:
		objects.SetPolicy(o.policy)
	}
}

// remove deletes the object of the key.
func (k objectKey) remove(objects watch.Objects) {
	switch k.kind {
	case kindPod:
		objects.DeletePod(k.NamespacedName)
	case kindNamespace:
		objects.DeleteNamespace(k.Name)
	case kindPolicy:
		objects.DeletePolicy(k.NamespacedName)
	}
}
