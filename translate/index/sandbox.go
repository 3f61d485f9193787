// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// sandbox is a live sandbox of this node, and the pod that it stands for. While it lives, that pod has the sandbox's
// addresses, not those from the API; everything else comes from the API as soon as it is there.
type sandbox[I, S any] struct {
	policy.Sandbox
	pod *Pod[I, S] // not in any namespace's pods
}

// equal says whether two sandboxes agree in everything that matters.
func (b *sandbox[I, S]) equal(o *policy.Sandbox) bool {
	return b.ID == o.ID && b.NamespacedName == o.NamespacedName && b.Node == o.Node && b.Serial == o.Serial &&
		b.Stale == o.Stale &&
		maps.Equal(b.Labels, o.Labels) && slices.Equal(b.IPs, o.IPs)
}

// SetSandbox adds a sandbox or replaces the one with its id. It ignores those of other nodes.
func (x *Index[I, S]) SetSandbox(b policy.Sandbox) {
	if b.Node != x.node.Value() {
		return
	}
	old := x.sandboxes[b.ID]
	if old != nil && old.equal(&b) {
		return
	}
	if old != nil && old.NamespacedName != b.NamespacedName {
		x.DeleteSandbox(b.ID)
		old = nil
	}
	next := &sandbox[I, S]{Sandbox: b}
	if old != nil {
		next.pod = old.pod
		isOld := func(o *sandbox[I, S]) bool { return o == old }
		x.sandboxesOf[b.NamespacedName] = slices.DeleteFunc(x.sandboxesOf[b.NamespacedName], isOld)
	}
	x.sandboxes[b.ID] = next
	x.sandboxesOf[b.NamespacedName] = append(x.sandboxesOf[b.NamespacedName], next)
	x.stand(next)
	x.hush(b.NamespacedName)
}

// DeleteSandbox forgets a sandbox: the API decides its addresses again.
func (x *Index[I, S]) DeleteSandbox(id string) {
	old := x.sandboxes[id]
	if old == nil {
		return
	}
	delete(x.sandboxes, id)
	rest := slices.DeleteFunc(x.sandboxesOf[old.NamespacedName], func(o *sandbox[I, S]) bool { return o == old })
	x.sandboxesOf[old.NamespacedName] = rest
	if len(rest) == 0 {
		delete(x.sandboxesOf, old.NamespacedName)
	}
	x.hush(old.NamespacedName) // before the address is free, so that it has an owner throughout
	x.replacePod(old.pod, nil)
}

// Sandboxes returns the sandboxes of this node by id.
func (x *Index[I, S]) Sandboxes() []policy.Sandbox {
	all := make([]policy.Sandbox, 0, len(x.sandboxes))
	for _, b := range x.sandboxes {
		all = append(all, b.Sandbox)
	}
	slices.SortFunc(all, func(a, b policy.Sandbox) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// SandboxPod returns the pod that a sandbox stands for, or nil if it is not known.
func (x *Index[I, S]) SandboxPod(id string) *Pod[I, S] {
	if b := x.sandboxes[id]; b != nil {
		return b.pod
	}
	return nil
}

// stand rebuilds the pod that a sandbox stands for: the API's, if that is on this node, with the sandbox's addresses.
func (x *Index[I, S]) stand(b *sandbox[I, S]) {
	p := policy.Pod{NamespacedName: b.NamespacedName, Labels: b.Labels, Running: true}
	if told := x.Pod(b.NamespacedName); told != nil && told.Node == x.node {
		p = told.Public()
	}
	p.Node, p.IPs, p.HostNetwork = b.Node, b.IPs, false
	old := b.pod
	b.pod = x.newPod(&p, x.identityOf(&p))
	b.pod.serial, b.pod.stale = b.Serial, b.Stale
	x.replacePod(old, b.pod)
}

// hush takes the API's addresses from a pod while it has a sandbox, and gives them back afterwards.
func (x *Index[I, S]) hush(name types.NamespacedName) {
	old := x.Pod(name)
	if old == nil || old.hushed == x.hushes(old) {
		return
	}
	p := old.Public()
	next := x.newPod(&p, old.Identity)
	next.hushed = !old.hushed
	old.Identity.Namespace.Pods[name.Name] = next
	x.replacePod(old, next)
}

// hushes says whether the API's addresses of a pod do not count.
func (x *Index[I, S]) hushes(p *Pod[I, S]) bool {
	all := x.sandboxesOf[types.NamespacedName{Namespace: p.Identity.Namespace.Name, Name: p.Name()}]
	return p.Node == x.node && slices.ContainsFunc(all, func(b *sandbox[I, S]) bool { return !b.Stale })
}

// restand updates the sandboxes of a pod from what the API now says about it.
func (x *Index[I, S]) restand(name types.NamespacedName) {
	for _, b := range x.sandboxesOf[name] {
		x.stand(b)
	}
}
