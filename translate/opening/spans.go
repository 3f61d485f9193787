// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
)

// Span is the addresses from the first to the one before the end, or to the top if the end is not valid. Spans with the
// same number count as one set of addresses.
type Span struct {
	First, End netip.Addr
	Number     int
}

// SpanOf returns the addresses of a prefix.
func SpanOf(p netip.Prefix, number int) Span { return Span{p.Addr(), nft.LastAddr(p).Next(), number} }

// Piece is an interval of addresses, both ends inclusive.
type Piece struct{ First, Last netip.Addr }

// edge is an address at which a span begins or has ended.
type edge struct {
	at     netip.Addr
	number int
	by     int // +1 begins, -1 has ended
}

// Pieces yields the disjoint pieces into which spans of one family are cut, in ascending order, each with the numbers
// of the spans that cover it, ascending. That slice is reused.
func Pieces(spans []Span) iter.Seq2[Piece, []int] {
	edges := edgesOf(spans)
	depth := make(map[int]int) // how many spans of a number are open
	var open []int             // numbers
	return func(yield func(Piece, []int) bool) {
		for i := 0; i < len(edges); {
			at := edges[i].at
			for ; i < len(edges) && edges[i].at == at; i++ {
				e := edges[i]
				depth[e.number] += e.by
				k, found := slices.BinarySearch(open, e.number)
				switch now := depth[e.number]; {
				case now > 0 && !found:
					open = slices.Insert(open, k, e.number)
				case now == 0 && found:
					open = slices.Delete(open, k, k+1)
				}
			}
			last := top(at)
			if i < len(edges) {
				last = edges[i].at.Prev()
			}
			if len(open) > 0 && !yield(Piece{at, last}, open) {
				return
			}
		}
	}
}

// edgesOf returns the ends of the spans in ascending order. A span that reaches the top of the address space has no
// second one.
func edgesOf(spans []Span) []edge {
	var edges []edge
	for _, s := range spans {
		edges = append(edges, edge{s.First, s.Number, +1})
		if s.End.IsValid() {
			edges = append(edges, edge{s.End, s.Number, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	return edges
}

// top is the highest address of the family of one.
func top(a netip.Addr) netip.Addr { return nft.LastAddr(netip.PrefixFrom(a, 0)) }

// IntsKey is equal only for equal lists.
func IntsKey(ints []int) string {
	b := make([]byte, 0, 4*len(ints))
	for _, n := range ints {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return string(b)
}
