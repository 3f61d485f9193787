// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/netpold/netpold/translate/chain"

// grant is what an isolation opens to identities.
type grant = chain.Grant

// grant updates what the isolation opens to an identity, and the elements of its addresses.
func (iso *isolation) grant(s *State, id *identity) {
	ports := iso.OpenTo(id.Selectors, id.Ports, func(sel *selector) bool {
		_, matches := sel.Matches[id]
		return matches
	})
	old := id.Own.grants[iso]
	if old == nil && ports.Empty() || old != nil && old.Ports.Key() == ports.Key() {
		return
	}
	var next *grant
	if !ports.Empty() {
		next = iso.placed.Acquire(ports)
	}
	if old != nil {
		for a := range s.index.Addresses(id) {
			iso.placed.Unwant(a, old)
		}
		iso.release(id, old)
	}
	if next != nil {
		if id.Own.grants == nil {
			id.Own.grants = make(map[*isolation]*grant)
		}
		id.Own.grants[iso] = next
		for a, p := range s.index.Addresses(id) {
			iso.placed.Want(a, p.Text, next)
		}
	}
}

// release takes g from id.
func (iso *isolation) release(id *identity, g *grant) {
	delete(id.Own.grants, iso)
	iso.placed.Release(g)
}
