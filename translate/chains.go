// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// render makes the chain of the isolation, and drops the sets that have become empty. The chain looks each kind of
// match up once, whatever the number of policies; what it does not allow it logs and denies.
func (iso *isolation) render(s *State) {
	for _, f := range nft.Families() {
		for _, k := range setKinds() {
			if set := s.table.FindSet(iso.setName(k, f)); set != nil && set.Len() == 0 {
				s.table.DeleteSet(set.Name)
			}
		}
	}
	s.table.SetChain(iso.chain(s))
}

// chain returns the isolation's chain.
func (iso *isolation) chain(s *State) *nft.Chain {
	peer := frame.PeerSide(iso.direction)
	c := &nft.Chain{Name: iso.name, Comment: frame.PolicyList(iso.policies)}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.Rules(statements...)...) }
	if iso.any.Every {
		add(frame.Allow(iso.direction))
		return c
	}
	if !iso.any.Empty() {
		add(openTo(iso.direction, iso.any)...)
	}
	for _, k := range []setKind{portsSet, podsSet, rangesSet} {
		iso.lookUp(s, k, add)
	}
	for _, sel := range slices.SortedFunc(maps.Keys(iso.lookedUp), bySelector) {
		for _, f := range nft.Families() {
			set := sel.Own.sets[f]
			switch ports := iso.lookedUp[sel]; {
			case set == nil:
			case ports.Every:
				add(nft.LookupIn(peer, set), frame.Allow(iso.direction))
			default:
				add(append([]nft.Statement{nft.LookupIn(peer, set)}, openTo(iso.direction, ports)...)...)
			}
		}
	}
	iso.lookUp(s, blocksSet, add)
	c.Rules = append(c.Rules, s.frame.Tail(iso.direction, iso.name)...)
	return c
}

// openTo returns the statements that allow ports in a direction.
func openTo(d policy.Direction, ports spec.Ports) []nft.Statement {
	if opening.Inline(ports) {
		return []nft.Statement{ports.Ranges, frame.Allow(d)}
	}
	return []nft.Statement{nft.JumpTo(opening.Of(d, ports).Chain)}
}

// lookUp adds the lookups of the isolation's sets of one kind.
func (iso *isolation) lookUp(s *State, k setKind, add func(...nft.Statement)) {
	for _, f := range nft.Families() {
		set := s.table.FindSet(iso.setName(k, f))
		switch {
		case set == nil:
		case set.Type.Map:
			add(nft.LookupIn(frame.PeerSide(iso.direction), set))
		default:
			add(nft.LookupIn(frame.PeerSide(iso.direction), set), frame.Allow(iso.direction))
		}
	}
}
