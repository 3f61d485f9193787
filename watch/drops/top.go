// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
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

	key key // by direction
}

// pairs are the pairs that had most packets.
type pairs struct {
	since   time.Time
	packets uint64
	byKey   map[key]*Pair
	all     []*Pair // the same, to be searched
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
		if len(t.all) < maxPairs {
			p = new(Pair)
			t.all = append(t.all, p)
		} else { // some 4 µs, and the kernel logs at most 100 packets a second for an isolation
			p = slices.MinFunc(t.all, func(a, b *Pair) int { return cmp.Compare(a.Count, b.Count) })
			delete(t.byKey, p.key)
		}
		*p = Pair{Direction: r.Direction, Protocol: r.Protocol, Src: r.Src, Dst: r.Dst, Count: p.Count,
			Excess: p.Count, key: k}
		p.Src.Port = 0
		t.byKey[k] = p
	}
	p.Count++
	p.Last = time.Now()
}

// Top returns the pairs of a namespace, "" for all.
func (l *Log) Top(namespace string) Top {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Top{Since: l.pairs.since, Packets: l.pairs.packets, Pairs: []Pair{}}
	for _, p := range l.pairs.all {
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
