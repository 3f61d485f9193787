// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/index"
	"github.com/netpold/netpold/translate/spec"
	"github.com/netpold/netpold/translate/tier"
)

// The state's data in the index for an identity and for a selector.
type (
	held struct {
		grants map[*isolation]*chain.Grant // what isolations allow it as a peer; nil if none do
		groups map[*list]*tier.Group       // in lists whose maps may have its addresses; nil if none
		local  *local                      // for its local pods; nil without any, as for most identities
	}
	local struct {
		isolations [2]*isolation              // by Direction; nil if not isolated
		shadows    [2]*isolation              // those after tier AuditAdmin
		audited    *[2][]types.NamespacedName // audited policies beside enforced ones that isolate; or nil
		lists      [2][4]*list                // by Direction and tier; nil if no rule applies
		settled    bool                       // isolations and lists have been found since the first local pod
	}
	uses struct {
		copiedBy   map[*isolation]struct{}  // those that copy its pods into their own sets
		lookedUpBy map[*isolation]int       // those that look up its pods in shared sets, and in how many; or nil
		lists      map[*list]struct{}       // those with it in their rules; nil if none
		addresses  int                      // number of addresses of the pods that it matches
		shared     map[string]*chain.Shared // by [chain.SharedKey]; nil if none
	}

	identity = index.Identity[held, uses]
	selector = index.Selector[held, uses]
	pod      = index.Pod[held, uses]
)

// here returns what follows for the local pods, which is nothing if there are none: then it is not to be changed.
func (h *held) here() *local {
	if h.local == nil {
		return new(local)
	}
	return h.local
}

// listener receives the index's changes.
type listener struct{ s *State }

// Match adds the addresses of id to everything that sel is in.
func (l listener) Match(sel *selector, id *identity) {
	n := 0
	for a := range l.s.index.Addresses(id) {
		l.s.listAddress(sel, a, id)
		n++
	}
	l.matched(sel, id, n)
}

// Unmatch removes them again.
func (l listener) Unmatch(sel *selector, id *identity) {
	n := 0
	for a := range l.s.index.Addresses(id) {
		l.s.delistAddress(sel, a, id)
		n--
	}
	l.matched(sel, id, n)
}

// matched updates the grants of id after sel matches n more addresses.
func (l listener) matched(sel *selector, id *identity, n int) {
	l.s.addAddresses(sel, n)
	for iso := range sel.Own.copiedBy {
		iso.grant(l.s, id)
	}
	for list := range sel.Own.lists {
		list.put(l.s, id)
	}
}

// Attach adds an address of p to everything that its identity is in.
func (l listener) Attach(a netip.Addr, p *pod) {
	s, id := l.s, p.Identity
	for _, sel := range id.Selectors {
		s.listAddress(sel, a, id)
		s.addAddresses(sel, 1)
	}
	for iso, g := range id.Own.grants {
		iso.placed.Want(a, p.Text, g)
	}
	for list, g := range id.Own.groups {
		list.move(s, a, nil, g)
	}
	if !s.index.IsLocal(p) {
		return
	}
	s.guard.Count(a, 1)
	if id.Own.local == nil {
		id.Own.local = new(local)
	}
	if _, waits := s.relisted[id]; waits { // what was before is in force for old pods only
		id.Own.local.settled = false
	}
	if len(id.Local) == 1 || !id.Own.local.settled {
		s.dirtyIdentities[id] = struct{}{}
	}
	s.setDispatch(a, p)
}

// Detach removes an address of p from everything that its identity is in.
func (l listener) Detach(a netip.Addr, p *pod) {
	s, id := l.s, p.Identity
	if s.leaving != nil {
		s.leaving(a, p.Public())
	}
	for _, sel := range id.Selectors {
		s.delistAddress(sel, a, id)
		s.addAddresses(sel, -1)
	}
	for iso, g := range id.Own.grants {
		iso.placed.Unwant(a, g)
	}
	for list, g := range id.Own.groups {
		list.move(s, a, g, nil)
	}
	if !s.index.IsLocal(p) {
		return
	}
	s.guard.Count(a, -1)
	if len(id.Local) == 0 {
		s.dirtyIdentities[id] = struct{}{}
	}
	s.unsetDispatch(a)
}

// Left removes an identity's grants from isolations.
func (l listener) Left(id *identity) {
	for iso, g := range id.Own.grants {
		iso.release(id, g)
	}
	for list, g := range id.Own.groups {
		list.placed.Leave(g)
	}
	if id.Own.local != nil {
		l.s.vacate(id)
	}
	delete(l.s.dirtyIdentities, id)
	delete(l.s.relisted, id)
}

// listAddress adds an address of id to sel's shared sets, and delistAddress removes it.
func (s *State) listAddress(sel *selector, a netip.Addr, id *identity) {
	for _, sh := range sel.Own.shared {
		sh.Add(a, id.Ports)
	}
}

func (s *State) delistAddress(sel *selector, a netip.Addr, id *identity) {
	for _, sh := range sel.Own.shared {
		sh.Remove(a, id.Ports)
	}
}

// selectorOf returns the selector of peer.
func (s *State) selectorOf(peer spec.Peer) *selector {
	sel := s.index.Selector(peer)
	if sel.Own.copiedBy == nil { // it is new
		sel.Own.copiedBy = make(map[*isolation]struct{})
	}
	return sel
}

// dropSelector forgets sel if nothing uses it any more.
func (s *State) dropSelector(sel *selector) {
	if len(sel.Own.copiedBy)+len(sel.Own.lookedUpBy)+len(sel.Own.lists) == 0 {
		s.index.DropSelector(sel)
	}
}

// all yields the isolations that use the selector.
func (u *uses) all() iter.Seq[*isolation] {
	return func(yield func(*isolation) bool) {
		for iso := range u.copiedBy {
			if !yield(iso) {
				return
			}
		}
		for iso := range u.lookedUpBy {
			if _, twice := u.copiedBy[iso]; !twice && !yield(iso) {
				return
			}
		}
	}
}
