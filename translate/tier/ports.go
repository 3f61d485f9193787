// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/netpold/netpold/nft"
)

// interval is a range of ports and the rule that decides them.
type interval struct {
	nft.PortRange
	rule    int
	verdict nft.Verdict
}

// joins says whether next follows i directly and has the same verdict.
func (i interval) joins(next interval) bool {
	return i.end()+1 == next.start() && i.verdict == next.verdict
}

// start and end are the ends of the interval in a single row of all protocols' ports.
func (i interval) start() int { return int(i.Proto)<<16 | int(i.First) }
func (i interval) end() int   { return int(i.Proto)<<16 | int(i.Last) }

// between returns the ports from one place in that row to another, which are of one protocol.
func between(start, end, rule int) interval {
	ports := nft.PortRange{Proto: uint8(start >> 16), First: uint16(start), Last: uint16(end)}
	return interval{PortRange: ports, rule: rule}
}

// queue is a heap of intervals, with that of the first rule on top.
type queue []interval

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].rule < q[j].rule }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(interval)) }

func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// first returns disjoint intervals in ascending order, each with the first rule that matches there.
func first(matches []match) []interval {
	var next, decided []interval
	for _, m := range matches {
		for _, r := range m.ports.Ranges {
			next = append(next, interval{PortRange: r, rule: m.rule})
		}
	}
	slices.SortFunc(next, func(a, b interval) int { return cmp.Compare(a.start(), b.start()) })
	var open queue
	for at := 0; len(next)+len(open) > 0; {
		if len(open) == 0 {
			at = next[0].start()
		}
		for len(next) > 0 && next[0].start() <= at {
			heap.Push(&open, next[0])
			next = next[1:]
		}
		for len(open) > 0 && open[0].end() < at {
			heap.Pop(&open)
		}
		if len(open) == 0 {
			continue
		}
		end := open[0].end()
		if len(next) > 0 {
			end = min(end, next[0].start()-1)
		}
		decided = append(decided, between(at, end, open[0].rule))
		at = end + 1
	}
	return decided
}
