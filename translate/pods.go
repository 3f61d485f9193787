// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
)

// pod is a pod of the state. It is not edited but replaced.
type pod struct {
	Pod
	text     string    // namespace/name
	identity *identity // nil while it claims no address
}

// claims returns the addresses at which policy may know the pod.
func (p *pod) claims() []netip.Addr {
	if p == nil || p.HostNetwork {
		return nil
	}
	return p.IPs
}

// equal says whether policy cannot tell p from q.
func (p *Pod) equal(q *Pod) bool {
	return p.NamespacedName == q.NamespacedName && p.Node == q.Node && p.HostNetwork == q.HostNetwork &&
		p.Running == q.Running && p.Created.Equal(q.Created) && p.Owner == q.Owner &&
		slices.Equal(p.IPs, q.IPs) && slices.Equal(p.Ports, q.Ports) && maps.Equal(p.Labels, q.Labels)
}

// SetPod adds p or replaces the pod of its name. The state keeps p's labels and slices; they are not changed afterwards.
func (s *State) SetPod(p Pod) {
	old := s.pods[p.NamespacedName]
	if old != nil && old.equal(&p) {
		return
	}
	next := &pod{Pod: p, text: p.String()}
	next.Namespace, next.Name = next.text[:len(p.Namespace)], next.text[len(p.Namespace)+1:] // one string in memory, not three
	if len(next.claims()) > 0 {
		next.identity = s.identityOf(&p)
		next.Labels, next.Ports = next.identity.labels, next.identity.ports
	}
	s.pods[next.NamespacedName] = next
	s.replacePod(old, next)
}

// DeletePod forgets a pod.
func (s *State) DeletePod(name types.NamespacedName) {
	old := s.pods[name]
	if old == nil {
		return
	}
	delete(s.pods, name)
	s.replacePod(old, nil)
}

// replacePod moves the claims of old to next; either may be nil.
func (s *State) replacePod(old, next *pod) {
	s.replaceHost(old, next)
	for _, a := range next.claims() {
		s.contend(a, old, next)
	}
	for _, a := range old.claims() {
		if !slices.Contains(next.claims(), a) {
			s.contend(a, old, nil)
		}
	}
	if old != nil && old.identity != nil {
		s.dropIdentity(old.identity)
	}
}

// contend replaces the claim of old to an address by that of next, and gives the address to the foremost of all that claim it.
// Two pods have one address when one of them is about to go: its address is free already and the kubelet has not said so yet.
func (s *State) contend(a netip.Addr, old, next *pod) {
	owner := s.owners[a]
	claims := s.rivals[a]
	if claims == nil && owner != nil {
		claims = []*pod{owner}
	}
	claims = slices.DeleteFunc(slices.Clone(claims), func(p *pod) bool { return p == old })
	if next != nil {
		claims = append(claims, next)
	}
	if len(claims) > 1 {
		s.rivals[a] = claims
	} else {
		delete(s.rivals, a)
	}
	var first *pod
	if len(claims) > 0 {
		first = slices.MinFunc(claims, foremost)
	}
	if first != owner {
		s.setOwner(a, owner, first)
	}
}

// foremost orders the pods that claim one address: running ones, then the newest, then by name so that the order is total.
func foremost(p, q *pod) int {
	running := func(p *pod) int {
		if p.Running {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(running(p), running(q)), q.Created.Compare(p.Created), cmp.Compare(p.text, q.text))
}

// setOwner takes an address from one pod and gives it to another; either may be nil.
func (s *State) setOwner(a netip.Addr, from, to *pod) {
	if from != nil {
		s.detach(a, from)
		delete(s.owners, a)
	}
	if to != nil {
		s.owners[a] = to
		s.attach(a, to)
	}
}

// attach adds an address of p to everything that its identity is in.
func (s *State) attach(a netip.Addr, p *pod) {
	id := p.identity
	id.addrs[a] = p
	for sel := range id.selectors {
		s.share(sel, a)
	}
	for iso, g := range id.grants {
		iso.want(s, a, p, g)
	}
	if p.Node != s.node {
		return
	}
	if id.local++; id.local == 1 {
		s.dirtyIdentities[id] = struct{}{}
	}
	s.dispatch(a, p)
}

// detach removes an address of p from everything that its identity is in.
func (s *State) detach(a netip.Addr, p *pod) {
	id := p.identity
	delete(id.addrs, a)
	for sel := range id.selectors {
		s.unshare(sel, a)
	}
	for iso, g := range id.grants {
		iso.unwant(s, a, g)
	}
	if p.Node != s.node {
		return
	}
	if id.local--; id.local == 0 {
		s.dirtyIdentities[id] = struct{}{}
	}
	s.undispatch(a)
}

// dispatch sends what the pod at a local address sends and gets to the isolations of its identity.
func (s *State) dispatch(a netip.Addr, p *pod) {
	f := nft.FamilyOf(a)
	isolated := false
	for _, d := range Directions() {
		dispatch, denied := s.table.FindSet(podsMap(d, f)), s.table.FindSet(deniedSet(d, f))
		iso := p.identity.isolations[d]
		if iso == nil {
			dispatch.Unwant(nft.AddrKey(a))
			denied.Unwant(nft.AddrKey(a))
			continue
		}
		isolated = true
		denied.Want(nft.AddrKey(a), nft.Value{Comment: p.text})
		dispatch.Want(nft.AddrKey(a), nft.Value{Verdict: nft.GotoChain(iso.name), Comment: p.text})
	}
	self := s.table.FindSet(selfSet(f))
	if isolated {
		self.Want(nft.PairKey(a, a), nft.Value{Comment: p.text})
	} else {
		self.Unwant(nft.PairKey(a, a))
	}
}

// undispatch takes a local address out of the maps.
func (s *State) undispatch(a netip.Addr) {
	f := nft.FamilyOf(a)
	for _, d := range Directions() {
		s.table.FindSet(podsMap(d, f)).Unwant(nft.AddrKey(a))
		s.table.FindSet(deniedSet(d, f)).Unwant(nft.AddrKey(a))
	}
	s.table.FindSet(selfSet(f)).Unwant(nft.PairKey(a, a))
}
