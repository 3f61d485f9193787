// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// DropRecord is one line about drops. Its JSON form is what the endpoint /drops answers.
type DropRecord struct {
	Time      time.Time `json:"time"`
	Direction string    `json:"direction"` // ingress or egress
	Protocol  string    `json:"protocol"`  // in nft(8)'s words
	Src       DropPeer  `json:"src"`
	Dst       DropPeer  `json:"dst"`
	ICMPType  *uint8    `json:"icmpType,omitempty"`
	ICMPCode  *uint8    `json:"icmpCode,omitempty"`
	Policies  []string  `json:"policies"` // that isolate the pod; of many, the first ones
	Count     int       `json:"count"`    // logged packets that the line stands for
	Text      string    `json:"text"`
}

// DropPeer is an end of a drop.
type DropPeer struct {
	Address   netip.Addr `json:"address"`
	Port      uint16     `json:"port,omitempty"`
	Pod       string     `json:"pod,omitempty"`   // as namespace/name, at the time of the drop
	Owner     string     `json:"owner,omitempty"` // the workload, as kind/name
	Namespace string     `json:"namespace,omitempty"`
}

// DropPair is a pair of ends that the table keeps apart. Its JSON form is part of what the endpoint /drops/top answers.
type DropPair struct {
	Direction string    `json:"direction"`
	Protocol  string    `json:"protocol"`
	Src       DropPeer  `json:"src"`
	Dst       DropPeer  `json:"dst"`
	Count     uint64    `json:"count"` // logged packets
	Excess    uint64    `json:"excess,omitempty"`
	Last      time.Time `json:"last"`
}

// Bounds of what is kept of drops, whatever is sent to a pod.
const (
	maxHistory = 1000 // lines
	maxPairs   = 1000
)

// dropHistory keeps the newest lines about drops, and the pairs that had most of them. Its lock may be held while the
// loop's mu is taken.
type dropHistory struct {
	mu      sync.Mutex
	since   time.Time
	lines   []DropRecord  // a ring: line n is at n modulo its length
	next    uint64        // the number of the next line
	changed chan struct{} // closed when there is one
	packets uint64        // counted in pairs
	pairs   map[pairKey]*pair
	fewest  pairHeap
}

// pairKey is what pairs are told apart by.
type pairKey struct {
	src, dst  netip.Addr
	proto     uint8
	dstPort   uint16
	direction string
}

// pair is a pair in the heap.
type pair struct {
	DropPair
	key   pairKey
	index int
}

func newDropHistory() *dropHistory {
	return &dropHistory{since: time.Now(), changed: make(chan struct{}), pairs: make(map[pairKey]*pair)}
}

// add adds a line.
func (h *dropHistory) add(r DropRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lines) < maxHistory {
		h.lines = append(h.lines, r)
	} else {
		h.lines[h.next%maxHistory] = r
	}
	h.next++
	close(h.changed)
	h.changed = make(chan struct{})
}

// from returns the lines from number from on, the number of the next one, how many were forgotten in between, and what is closed when
// there are more.
func (h *dropHistory) from(from uint64) (lines []DropRecord, next, missed uint64, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if first := h.next - uint64(len(h.lines)); from < first {
		missed, from = first-from, first
	}
	for n := from; n < h.next; n++ {
		lines = append(lines, h.lines[n%maxHistory])
	}
	return lines, h.next, missed, h.changed
}

// count counts a logged packet of a pair. Of a pair that is new when the table is full, the one with the fewest packets makes room and
// leaves it its count, as Excess: a count is too high by that at most, and what has more than the fewest is surely there (the algorithm
// is Space-Saving, Metwally et al. 2005).
func (h *dropHistory) count(key pairKey, describe func() DropPair) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.packets++
	p := h.pairs[key]
	switch {
	case p != nil:
	case len(h.pairs) < maxPairs:
		p = &pair{DropPair: describe(), key: key}
		h.pairs[key] = p
		heap.Push(&h.fewest, p)
	default:
		p = h.fewest[0]
		delete(h.pairs, p.key)
		excess := p.Count
		p.DropPair, p.key = describe(), key
		p.Count, p.Excess = excess, excess
		h.pairs[key] = p
	}
	p.Count++
	p.Last = time.Now()
	heap.Fix(&h.fewest, p.index)
}

// TopDrops are the pairs with most logged packets. Its JSON form is what the endpoint /drops/top answers.
type TopDrops struct {
	Since   time.Time  `json:"since"`
	Packets uint64     `json:"packets"` // of all pairs
	Pairs   []DropPair `json:"pairs"`   // those with most packets first
}

// top returns the pairs that keep wants.
func (h *dropHistory) top(keep func(DropPair) bool) TopDrops {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := TopDrops{Since: h.since, Packets: h.packets, Pairs: []DropPair{}}
	for _, p := range h.pairs {
		if keep(p.DropPair) {
			t.Pairs = append(t.Pairs, p.DropPair)
		}
	}
	slices.SortFunc(t.Pairs, func(a, b DropPair) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Src.Address.Compare(b.Src.Address), a.Dst.Address.Compare(b.Dst.Address),
			cmp.Compare(a.Dst.Port, b.Dst.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Direction, b.Direction))
	})
	return t
}

// pairHeap has the pair with the fewest packets first.
type pairHeap []*pair

func (h pairHeap) Len() int           { return len(h) }
func (h pairHeap) Less(i, j int) bool { return h[i].Count < h[j].Count }
func (h pairHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push appends a pair; package heap calls it.
func (h *pairHeap) Push(x any) {
	p, ok := x.(*pair)
	if !ok {
		return
	}
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop takes the last pair away; package heap calls it.
func (h *pairHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
