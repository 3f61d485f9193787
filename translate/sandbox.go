// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// sandbox is a live sandbox of this node, and the pod that it stands for. While it lives, that pod has the sandbox's
// addresses, and none that the API tells; all else about it is the API's to tell, as soon as it does.
type sandbox struct {
	policy.Sandbox
	pod *pod // is in no namespace's pods
}

// equal says whether two sandboxes are the same in all that counts.
func (b *sandbox) equal(o *policy.Sandbox) bool {
	return b.ID == o.ID && b.NamespacedName == o.NamespacedName && b.Node == o.Node && b.Serial == o.Serial &&
		b.Stale == o.Stale &&
		maps.Equal(b.Labels, o.Labels) && slices.Equal(b.IPs, o.IPs)
}

// SetSandbox adds a sandbox or replaces the one of its id. Those of other nodes do not count.
func (s *State) SetSandbox(b policy.Sandbox) {
	if b.Node != s.node.Value() {
		return
	}
	old := s.sandboxes[b.ID]
	if old != nil && old.equal(&b) {
		return
	}
	if old != nil && old.NamespacedName != b.NamespacedName {
		s.DeleteSandbox(b.ID)
		old = nil
	}
	next := &sandbox{Sandbox: b}
	if old != nil {
		next.pod = old.pod
		s.sandboxesOf[b.NamespacedName] = slices.DeleteFunc(s.sandboxesOf[b.NamespacedName], func(o *sandbox) bool {
			return o == old
		})
	}
	s.sandboxes[b.ID] = next
	s.sandboxesOf[b.NamespacedName] = append(s.sandboxesOf[b.NamespacedName], next)
	s.stand(next)
	s.hush(b.NamespacedName)
}

// DeleteSandbox forgets a sandbox: its addresses are the API's to tell again.
func (s *State) DeleteSandbox(id string) {
	old := s.sandboxes[id]
	if old == nil {
		return
	}
	delete(s.sandboxes, id)
	rest := slices.DeleteFunc(s.sandboxesOf[old.NamespacedName], func(o *sandbox) bool { return o == old })
	if s.sandboxesOf[old.NamespacedName] = rest; len(rest) == 0 {
		delete(s.sandboxesOf, old.NamespacedName)
	}
	s.hush(old.NamespacedName) // before the address is free, so that it has an owner throughout
	s.replacePod(old.pod, nil)
}

// Sandboxes returns the sandboxes of this node by id.
func (s *State) Sandboxes() []policy.Sandbox {
	all := make([]policy.Sandbox, 0, len(s.sandboxes))
	for _, b := range s.sandboxes {
		all = append(all, b.Sandbox)
	}
	slices.SortFunc(all, func(a, b policy.Sandbox) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// KnowsPod says whether the API has told of a pod.
func (s *State) KnowsPod(name types.NamespacedName) bool { return s.pod(name) != nil }

// Settled says whether the table has all that follows from a sandbox: nothing of it is left for a next [State.Portion].
// One that is not known is settled.
func (s *State) Settled(id string) bool {
	b := s.sandboxes[id]
	if b == nil {
		return true
	}
	if _, dirty := s.dirtyIdentities[b.pod.identity]; dirty {
		return false
	}
	for _, iso := range b.pod.identity.isolations {
		if _, dirty := s.dirtyIsolations[iso]; dirty && iso != nil {
			return false
		}
	}
	return true
}

// stand makes the pod that a sandbox stands for anew: the API's, if that is of this node, with the sandbox's addresses.
func (s *State) stand(b *sandbox) {
	p := policy.Pod{NamespacedName: b.NamespacedName, Labels: b.Labels, Running: true}
	if told := s.pod(b.NamespacedName); told != nil && told.node == s.node {
		p = told.public()
	}
	p.Node, p.IPs, p.HostNetwork = b.Node, b.IPs, false
	old := b.pod
	b.pod = s.newPod(&p, s.identityOf(&p))
	b.pod.serial, b.pod.stale = b.Serial, b.Stale
	s.replacePod(old, b.pod)
}

// hush takes the addresses that the API tells of a pod from it while it has a sandbox, and gives them back afterwards.
func (s *State) hush(name types.NamespacedName) {
	old := s.pod(name)
	if old == nil || old.hushed == s.hushes(old) {
		return
	}
	p := old.public()
	next := s.newPod(&p, old.identity)
	next.hushed = !old.hushed
	old.identity.namespace.pods[name.Name] = next
	s.replacePod(old, next)
}

// hushes says whether the addresses that the API tells of a pod do not count.
func (s *State) hushes(p *pod) bool {
	all := s.sandboxesOf[types.NamespacedName{Namespace: p.identity.namespace.name, Name: p.name()}]
	return p.node == s.node && slices.ContainsFunc(all, func(b *sandbox) bool { return !b.Stale })
}

// restand brings the sandboxes of a pod up to date with what the API tells of it now.
func (s *State) restand(name types.NamespacedName) {
	for _, b := range s.sandboxesOf[name] {
		s.stand(b)
	}
}
