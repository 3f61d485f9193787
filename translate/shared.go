// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"

	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
)

// wideFrom is the number of addresses from which a selector is wide: its users look up its pods in a shared set instead
// of copying them.
const wideFrom = 1024

// wide says whether a selector is wide, by what it matches now.
func (s *State) wide(sel *selector) bool {
	return sel.Own.addresses >= cmp.Or(s.options.WideFrom, wideFrom)
}

// share returns the shared sets of a selector, complete.
func (s *State) share(sel *selector, ports ...policy.NamedPort) *chain.Shared {
	key := chain.SharedKey(ports)
	sh := sel.Own.shared[key]
	if sh != nil {
		return sh
	}
	sh = chain.NewShared(s.place, sel.Key, ports)
	if sel.Own.shared == nil {
		sel.Own.shared = make(map[string]*chain.Shared)
	}
	sel.Own.shared[key] = sh
	for id := range sel.Matches {
		for a := range s.index.Addresses(id) {
			sh.Add(a, id.Ports)
		}
	}
	return sh
}

// unshare forgets the shared sets of a selector if nobody needs them.
func unshare(sel *selector, sh *chain.Shared) {
	if sh.Users() == 0 {
		delete(sel.Own.shared, sh.Key())
	}
}

// lookUpIn makes iso a user of the shared sets of sel that it needs.
func (s *State) lookUpIn(sel *selector, iso *isolation, a content.Allowed) {
	for ports := range a.Shared() {
		s.share(sel, ports...).LookUp(iso.name)
		if sel.Own.lookedUpBy == nil {
			sel.Own.lookedUpBy = make(map[*isolation]int)
		}
		sel.Own.lookedUpBy[iso]++
	}
}

// endLookUp takes back one lookUpIn.
func (s *State) endLookUp(sel *selector, iso *isolation, a content.Allowed) {
	for ports := range a.Shared() {
		sh := sel.Own.shared[chain.SharedKey(ports)]
		sh.EndLookUp(iso.name)
		if sel.Own.lookedUpBy[iso]--; sel.Own.lookedUpBy[iso] == 0 {
			delete(sel.Own.lookedUpBy, iso)
		}
		unshare(sel, sh)
	}
	s.dropSelector(sel)
}
