// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/spec"
)

// render makes the chain of the isolation, and drops the sets that have become empty. The chain looks each kind of
// match up once, whatever the number of policies; what it does not allow it logs and denies.
func (iso *isolation) render(s *State) {
	if iso.unaudited() {
		return // nothing leads to it
	}
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
	peer := frame.PeerSide(iso.kind.Direction)
	c := &nft.Chain{Name: iso.name, Comment: frame.PolicyList(iso.policies)}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.Rules(statements...)...) }
	if iso.any.Every {
		add(iso.kind.Allow())
		return c
	}
	if !iso.any.Empty() {
		add(openTo(iso.kind, iso.any)...)
	}
	for _, k := range []setKind{portsSet, podsSet, rangesSet} {
		iso.lookUp(s, k, add)
	}
	for _, sel := range slices.SortedFunc(maps.Keys(iso.lookedUp), bySelector) {
		a := iso.lookedUp[sel]
		for ports := range a.shared() {
			for _, f := range nft.Families() {
				switch set := sel.Own.shared[sharedKey(ports)].sets[f]; {
				case set == nil:
				case len(ports) > 0 || a.open.Every:
					add(nft.LookupIn(peer, set), iso.kind.Allow())
				default:
					add(append([]nft.Statement{nft.LookupIn(peer, set)}, openTo(iso.kind, a.open)...)...)
				}
			}
		}
	}
	iso.lookUp(s, blocksSet, add)
	c.Rules = append(c.Rules, s.frame.Tail(iso.kind, iso.name)...)
	return c
}

// openTo returns the statements that allow ports in an isolation of a kind.
func openTo(k frame.Kind, ports spec.Ports) []nft.Statement {
	if opening.Inline(ports) {
		return []nft.Statement{ports.Ranges, k.Allow()}
	}
	return []nft.Statement{nft.JumpTo(opening.Of(k, ports).Chain)}
}

// lookUp adds the lookups of the isolation's sets of one kind.
func (iso *isolation) lookUp(s *State, k setKind, add func(...nft.Statement)) {
	for _, f := range nft.Families() {
		set := s.table.FindSet(iso.setName(k, f))
		switch {
		case set == nil:
		case set.Type.Map:
			add(nft.LookupIn(frame.PeerSide(iso.kind.Direction), set))
		default:
			add(nft.LookupIn(frame.PeerSide(iso.kind.Direction), set), iso.kind.Allow())
		}
	}
}
