// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/spec"
)

// fanOut is how many parts a part of the address space is divided into. A packet meets the ports of one part of each
// size: with 65,000 pieces at most 5 chains. The kernel allows 16 on a packet's way, which includes those of egress and
// of ingress.
const fanOut = 16

// auditFanOut is the same for auditing isolations, whose way ends with one more chain: with the pieces of the most
// blocks that an isolation may have, a packet meets one chain less.
const auditFanOut = 32

// nesting makes the form of [Cut] for many blocks with many ports. The pieces into which the blocks divide the address
// space are the leaves of a tree; a block's ports are open at the largest parts that it covers, a few of each size, and
// the chain of a part goes to that of the part around it:
//
//	blocks     ├───── 80 ─────┤├────── 443 ──────┤          the tree   {80}: pieces 0-7    {443}: pieces 8-15
//	              ├── 22 ──┤                                    └ {22}: pieces 2, 3
//
// So n blocks with a port each are some n × log n ports, however they overlap.
type nesting struct {
	kind   frame.Kind
	family nft.Family
	sets   []spec.Ports
	most   int // port ranges that may be written

	starts  []netip.Addr // of the pieces
	unions  map[string]spec.Ports
	written int // port ranges in all chains, and in all sets that chains share
	ranges  []Range
}

// nest returns the ranges of the spans, and whether they are within the limit.
func (n *nesting) nest(spans []Span) ([]Range, bool) {
	for _, e := range edgesOf(spans) {
		n.starts = append(n.starts, e.at)
	}
	n.starts = slices.Compact(n.starts)
	parts := make([]part, len(spans))
	for i, s := range spans {
		first, _ := slices.BinarySearchFunc(n.starts, s.First, netip.Addr.Compare)
		end := len(n.starts)
		if s.End.IsValid() {
			end, _ = slices.BinarySearchFunc(n.starts, s.End, netip.Addr.Compare)
		}
		parts[i] = part{first, end, s.Number}
	}
	pieces := len(n.starts)
	if !slices.ContainsFunc(spans, func(s Span) bool { return !s.End.IsValid() }) {
		// nothing is open from the last one on
		pieces--
	}
	n.build(0, pieces, parts, nil)
	return n.ranges, n.written <= n.most
}

// part is a span of pieces, from the first to the one before the end.
type part struct {
	first, end int
	ports      int
}

// build adds the ranges of the pieces from first to end, in which parts are open, and all around them outer.
func (n *nesting) build(first, end int, parts []part, outer *Opening) {
	if n.written > n.most {
		return
	}
	var all []int
	var rest []part
	for _, p := range parts {
		if p.first <= first && end <= p.end {
			all = append(all, p.ports)
		} else {
			rest = append(rest, p)
		}
	}
	if len(all) > 0 {
		ports := n.union(all)
		if Inline(ports) {
			n.written += len(ports.Ranges)
		}
		inner := inside(n.kind, ports, outer)
		outer = &inner
		if ports.Every {
			rest = nil // it is everything already
		}
	}
	if len(rest) == 0 {
		n.add(first, end, outer)
		return
	}
	fan := fanOut
	if n.kind.Audit {
		fan = auditFanOut
	}
	width := (end - first + fan - 1) / fan
	for ; first < end; first += width {
		last := min(first+width, end)
		n.build(first, last, slices.DeleteFunc(slices.Clone(rest), func(p part) bool {
			return p.end <= first || last <= p.first
		}), outer)
	}
}

// union returns the union of port sets, computing each union once.
func (n *nesting) union(ids []int) spec.Ports {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	key := IntsKey(ids)
	if u, known := n.unions[key]; known {
		return u
	}
	u := unionOf(n.sets, ids)
	n.unions[key] = u
	n.written += len(u.Ranges)
	return u
}

// add adds the range of the pieces from first to end, if anything is open there.
func (n *nesting) add(first, end int, open *Opening) {
	if open == nil {
		return
	}
	at := Piece{n.starts[first], top(n.starts[first])}
	if end < len(n.starts) {
		at.Last = n.starts[end].Prev()
	}
	n.ranges = extend(n.ranges, Range{n.family, at, *open})
}
