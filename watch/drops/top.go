// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// maxPairs bounds the pairs that are kept, whatever is sent to a pod.
const maxPairs = 1000

// Top is the pairs with most logged packets. Its JSON form is the answer of the endpoint /drops/top.
type Top struct {
	Since   time.Time `json:"since"`
	Packets uint64    `json:"packets"` // of all pairs
	Pairs   []Pair    `json:"pairs"`   // those with most packets first
}

// Pair is a pair of ends, with names as of when it was first seen.
type Pair struct {
	Direction string    `json:"direction"`
	Protocol  string    `json:"protocol"`
	Src       Peer      `json:"src"`
	Dst       Peer      `json:"dst"`
	Count     uint64    `json:"count"` // logged packets
	Excess    uint64    `json:"excess,omitempty"`
	Last      time.Time `json:"last"`

	key   key // by direction
	index int // in the heap
}

// pairs are the pairs that had most packets.
type pairs struct {
	since   time.Time
	packets uint64
	byKey   map[key]*Pair
	fewest  pairHeap
}

// countPair counts a logged packet of a pair, by Space-Saving (Metwally et al. 2005). When the table is full, a new
// pair replaces the one with the fewest packets and inherits its count as Excess: a count is too high by at most that,
// and any pair with more packets than the lowest count is in the table.
func (l *Log) countPair(r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, k := &l.pairs, r.key
	k.by = r.Direction
	t.packets++
	p := t.byKey[k]
	if p == nil {
		p = &Pair{Direction: r.Direction, Protocol: r.Protocol, Src: r.Src, Dst: r.Dst, key: k}
		p.Src.Port = 0
		if len(t.byKey) < maxPairs {
			heap.Push(&t.fewest, p)
		} else {
			old := t.fewest[0]
			delete(t.byKey, old.key)
			p.Count, p.Excess, t.fewest[0] = old.Count, old.Count, p
		}
		t.byKey[k] = p
	}
	p.Count++
	p.Last = time.Now()
	heap.Fix(&t.fewest, p.index)
}

// Top returns the pairs of a namespace, "" for all.
func (l *Log) Top(namespace string) Top {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Top{Since: l.pairs.since, Packets: l.pairs.packets, Pairs: []Pair{}}
	for _, p := range l.pairs.byKey {
		if inNamespace(namespace, p.Src, p.Dst) {
			t.Pairs = append(t.Pairs, *p)
		}
	}
	slices.SortFunc(t.Pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Src.Address.Compare(b.Src.Address),
			a.Dst.Address.Compare(b.Dst.Address),
			cmp.Compare(a.Dst.Port, b.Dst.Port), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.Direction, b.Direction))
	})
	return t
}

// ServeTop serves the [Top] as JSON; ?namespace= keeps the pairs of a namespace.
func (l *Log) ServeTop(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(l.of(r).Top(r.URL.Query().Get("namespace"))) // the asker has gone
}

// pairHeap has the pair with the fewest packets first.
type pairHeap []*Pair

func (h pairHeap) Len() int           { return len(h) }
func (h pairHeap) Less(i, j int) bool { return h[i].Count < h[j].Count }
func (h pairHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push appends a pair; package heap calls it.
func (h *pairHeap) Push(x any) {
	p, ok := x.(*Pair)
	if !ok {
		return
	}
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop removes the last pair; package heap calls it.
func (h *pairHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
