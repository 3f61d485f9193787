// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"net/netip"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/spec"
)

// Block is an ipBlock with the ports that its rule opens.
type Block struct {
	spec.Block
	Ports spec.Ports
}

// Range is an interval of addresses and what is open to it.
type Range struct {
	Family nft.Family
	Piece
	Opening
}

// maxFlat is how many port ranges the chains of an isolation's blocks may have in all if each has everything that is
// open to its addresses.
const maxFlat = 10_000

// Cut turns overlapping blocks of one family into disjoint ranges in ascending order, each with the union of the ports
// of the blocks that cover it. Neighbours with equal ports are one range. The kernel silently accepts and then
// misjudges overlapping intervals, so nothing else may reach an interval set.
//
// The unions of n nested blocks, each with a port of its own, are n² ports: beyond maxFlat they take another form, see
// [nesting]. It returns false if that, too, would be more than most.
func Cut(k frame.Kind, f nft.Family, blocks []Block, most int) ([]Range, bool) {
	spans, sets := spansOf(blocks)
	unions := make(map[string]Opening)
	written := 0 // port ranges in them
	var ranges []Range
	for piece, ids := range Pieces(spans) {
		key := IntsKey(ids)
		open, known := unions[key]
		if !known {
			for _, id := range ids {
				written += len(sets[id].Ranges)
			}
			if written > maxFlat {
				n := nesting{kind: k, family: f, sets: sets, unions: make(map[string]spec.Ports), most: most}
				return n.nest(spans)
			}
			open = Of(k, unionOf(sets, ids))
			unions[key] = open
		}
		ranges = extend(ranges, Range{f, piece, open})
	}
	return ranges, true
}

// extend appends a range, or makes the last one longer if it has the same form and ends before it.
func extend(ranges []Range, r Range) []Range {
	if i := len(ranges) - 1; i >= 0 && ranges[i].Last.Next() == r.First && ranges[i].equal(r.Opening) {
		ranges[i].Last = r.Last
		return ranges
	}
	return append(ranges, r)
}

// unionOf returns the union of some of the sets.
func unionOf(sets []spec.Ports, ids []int) spec.Ports {
	some := make([]spec.Ports, len(ids))
	for i, id := range ids {
		some[i] = sets[id]
	}
	return spec.Union(some...)
}

// spansOf returns what the blocks open where, by the numbers of the distinct port sets, and these.
func spansOf(blocks []Block) ([]Span, []spec.Ports) {
	var spans []Span
	var sets []spec.Ports
	ids := make(map[string]int)
	for _, b := range blocks {
		key := b.Ports.Key()
		id, known := ids[key]
		if !known {
			id = len(sets)
			ids[key], sets = id, append(sets, b.Ports)
		}
		open := func(first, end netip.Addr) { // end is the first address after it
			if first != end {
				spans = append(spans, Span{first, end, id})
			}
		}
		from := b.CIDR.Addr()
		for _, e := range nft.Outermost(b.Except) {
			open(from, e.Addr())
			from = nft.LastAddr(e).Next()
		}
		if from.IsValid() { // otherwise an except reaches the top
			open(from, nft.LastAddr(b.CIDR).Next())
		}
	}
	return spans, sets
}
