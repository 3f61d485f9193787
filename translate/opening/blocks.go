// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/spec"
)

// Block is an ipBlock with the ports that its rule opens.
type Block struct {
	spec.Block
	Ports spec.Ports
}

// Range is an interval of addresses, both ends inclusive, and what is open to it.
type Range struct {
	Family      nft.Family
	First, Last netip.Addr
	Opening
}

// span is addresses at which a port set is open, from the first to the one before the end, or to the top if end is not
// valid.
type span struct {
	first, end netip.Addr
	ports      int // index in the list of distinct sets
}

// edge is an address at which ports begin or cease to be open.
type edge struct {
	at    netip.Addr
	ports int
	opens int // +1 opens, -1 closes
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
	edges := edgesOf(spans)
	open := openSets{kind: k, sets: sets, depth: make([]int, len(sets)), unions: make(map[string]Opening)}
	var ranges []Range
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			open.turn(edges[i])
		}
		if len(open.ids) == 0 {
			continue
		}
		last := top(f)
		if i < len(edges) {
			last = edges[i].at.Prev()
		}
		union := open.union()
		if open.written > maxFlat {
			n := nesting{kind: k, family: f, sets: sets, unions: make(map[string]spec.Ports), most: most}
			return n.nest(spans)
		}
		if n := len(ranges); n > 0 && ranges[n-1].Last.Next() == at && ranges[n-1].equal(union) {
			ranges[n-1].Last = last
			continue
		}
		ranges = append(ranges, Range{f, at, last, union})
	}
	return ranges, true
}

// openSets are the port sets that are open at one point of the address space.
type openSets struct {
	kind    frame.Kind
	sets    []spec.Ports
	depth   []int // how many blocks with the set are open
	ids     []int // of the open sets, ascending
	unions  map[string]Opening
	written int // port ranges in all unions so far
}

// turn opens or closes a set.
func (o *openSets) turn(e edge) {
	before := o.depth[e.ports]
	o.depth[e.ports] += e.opens
	i, _ := slices.BinarySearch(o.ids, e.ports)
	switch {
	case before == 0:
		o.ids = slices.Insert(o.ids, i, e.ports)
	case o.depth[e.ports] == 0:
		o.ids = slices.Delete(o.ids, i, i+1)
	}
}

// union returns the union of the open sets; meaningless once too much is written.
func (o *openSets) union() Opening {
	name := idsKey(o.ids)
	u, known := o.unions[name]
	if known {
		return u
	}
	open := make([]spec.Ports, len(o.ids))
	for i, id := range o.ids {
		open[i] = o.sets[id]
		o.written += len(open[i].Ranges)
	}
	if o.written <= maxFlat {
		u = Of(o.kind, spec.Union(open...))
		o.unions[name] = u
	}
	return u
}

// idsKey is equal only for equal lists.
func idsKey(ids []int) string {
	var b []byte
	for _, id := range ids {
		b = binary.BigEndian.AppendUint32(b, uint32(id))
	}
	return string(b)
}

// spansOf returns what the blocks open where, and the distinct port sets.
func spansOf(blocks []Block) ([]span, []spec.Ports) {
	var spans []span
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
				spans = append(spans, span{first, end, id})
			}
		}
		from := b.CIDR.Addr()
		for _, e := range outermost(b.Except) {
			open(from, e.Addr())
			from = nft.LastAddr(e).Next()
		}
		if from.IsValid() { // otherwise an except reaches the top
			open(from, nft.LastAddr(b.CIDR).Next())
		}
	}
	return spans, sets
}

// edgesOf returns the ends of the spans in ascending order. A span that reaches the top of the address space has no
// closing edge.
func edgesOf(spans []span) []edge {
	var edges []edge
	for _, s := range spans {
		edges = append(edges, edge{s.first, s.ports, +1})
		if s.end.IsValid() {
			edges = append(edges, edge{s.end, s.ports, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	return edges
}

// outermost returns the prefixes that are not inside another, in ascending order.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	outer := sorted[:0]
	for _, p := range sorted {
		if n := len(outer); n > 0 && outer[n-1].Contains(p.Addr()) {
			continue
		}
		outer = append(outer, p)
	}
	return outer
}

// top is the highest address of a family.
func top(f nft.Family) netip.Addr {
	lowest := netip.IPv4Unspecified()
	if f == nft.IPv6 {
		lowest = netip.IPv6Unspecified()
	}
	return nft.LastAddr(netip.PrefixFrom(lowest, 0))
}
