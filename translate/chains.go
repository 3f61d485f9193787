// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/spec"
)

// render makes the chain of the isolation.
func (iso *isolation) render(s *State) {
	if iso.unaudited() {
		return // nothing leads to it
	}
	b := chain.Body{Any: iso.Any, Tail: s.frame.Tail(iso.kind, iso.name)}
	for _, sel := range slices.SortedFunc(maps.Keys(iso.LookedUp), bySelector) {
		a := iso.LookedUp[sel]
		for ports := range a.Shared() {
			opens := a.Open
			if len(ports) > 0 { // the set has the numbers
				opens = spec.Ports{Every: true}
			}
			for _, f := range nft.Families() {
				if set := sel.Own.shared[chain.SharedKey(ports)].Find(f); set != nil {
					b.Lookups = append(b.Lookups, chain.Lookup{Set: set, Ports: opens})
				}
			}
		}
	}
	iso.placed.Render(b)
}
