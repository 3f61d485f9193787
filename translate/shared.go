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

// shared returns the shared sets of a selector, complete.
func (s *State) shared(sel *selector, ports ...policy.NamedPort) *chain.Shared {
	key := chain.SharedKey(ports)
	sh := sel.Own.shared[key]
	if sh != nil {
		return sh
	}
	sh = chain.NewShared(s.place, sel.Key, ports, func() { delete(sel.Own.shared, key) })
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

// lookUp makes iso a user of the shared sets of sel that it needs (by 1), or no longer (by -1).
func (s *State) lookUp(iso *isolation, sel *selector, a content.Allowed, by int) {
	if sel.Own.lookedUpBy == nil {
		sel.Own.lookedUpBy = make(map[*isolation]int)
	}
	for ports := range a.Shared() {
		s.shared(sel, ports...).LookUp(iso.name, by)
		if sel.Own.lookedUpBy[iso] += by; sel.Own.lookedUpBy[iso] == 0 {
			delete(sel.Own.lookedUpBy, iso)
		}
	}
	s.dropSelector(sel)
}
