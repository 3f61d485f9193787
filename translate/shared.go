// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"

	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
)

// wideFrom is from how many addresses on a selector is wide: who has it looks its pods up in a set that all share, and
// has no copy of them.
const wideFrom = 1024

// wide says whether a selector is, by what it matches now.
func (s *State) wide(sel *selector) bool {
	return sel.Own.addresses >= cmp.Or(s.options.WideFrom, wideFrom)
}

// share returns what is shared of a selector, complete.
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

// unshare forgets what is shared of a selector if nobody needs it.
func unshare(sel *selector, sh *chain.Shared) {
	if sh.Users() == 0 {
		delete(sel.Own.shared, sh.Key())
	}
}

// lookUpIn makes iso a user of the sets of sel that have what it allows.
func (s *State) lookUpIn(sel *selector, iso *isolation, a content.Allowed) {
	for ports := range a.Shared() {
		s.share(sel, ports...).LookUp(iso.name)
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
