// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/observe"
)

// history is all known flows. It has no lock.
type history struct {
	entries map[key]*entry
	young   []*entry      // with an end that may still get a name
	version uint64        // of the last change
	changed chan struct{} // closed at the next one
}

// key identifies a flow; it has the pods because an address may change hands.
type key struct {
	family   nft.Family
	key      nft.Key
	from, to string // pods
}

// entry is a flow, allowed or denied.
type entry struct {
	key     key
	flow    flows.Flow // without counts
	counts  [2]count   // by [observe.Kind]: all, and denied
	told    [2]part
	noticed time.Time
}

// part is what is reported of a flow's connections with one verdict.
type part struct {
	count
	version uint64 // of the history, at its last change
}

// count counts connections.
type count struct {
	n           uint64
	first, last time.Time
}

func (c *count) add(n uint64, first, last time.Time) {
	c.n += n
	if c.first.IsZero() || first.Before(c.first) {
		c.first = first
	}
	if last.After(c.last) {
		c.last = last
	}
}

// add adds new counts.
func (h *history) add(changes []change, ends map[netip.Addr]flows.End) {
	if len(changes) == 0 {
		return
	}
	h.next()
	touched := make(map[*entry]struct{})
	for _, c := range changes {
		from, to := c.ends()
		e := h.entryOf(c.element, ends[from], ends[to])
		e.counts[c.kind].add(c.packets, c.last, c.last)
		touched[e] = struct{}{}
	}
	for e := range touched { // after all sets: a denied connection is counted in two
		e.settle(h.version)
	}
}

// next begins a version, which followers wait for.
func (h *history) next() {
	h.version++
	close(h.changed)
	h.changed = make(chan struct{})
}

// entryOf returns the entry of a flow, and makes it if there is none.
func (h *history) entryOf(el element, from, to flows.End) *entry {
	k := key{el.family, el.key, from.Pod, to.Pod}
	e := h.entries[k]
	if e == nil {
		e = &entry{key: k, noticed: time.Now(), flow: flows.Flow{From: from, To: to,
			Protocol: flows.ProtocolName(el.key.Proto), Port: el.key.Port}}
		h.entries[k] = e
		if unknown(from) || unknown(to) {
			h.young = append(h.young, e)
		}
	}
	return e
}

// settle updates the parts from the counts.
func (e *entry) settle(version uint64) {
	all, denied := e.counts[observe.All], e.counts[observe.Denied]
	allowed := e.told[0].count
	switch {
	case denied.n == 0:
		allowed = all
	case all.n <= denied.n: // the denied were read later, and are counted even if the other set is full
		allowed = count{}
	case all.n-denied.n > allowed.n:
		allowed.add(all.n-denied.n-allowed.n, all.last, all.last)
	default:
		allowed.n = all.n - denied.n
	}
	for i, c := range [...]count{allowed, denied} {
		if e.told[i].n != c.n {
			e.told[i] = part{c, version}
		}
	}
}

// rename gives young flows the names that are known by now.
func (h *history) rename(ends map[netip.Addr]flows.End) {
	for i, e := range h.young {
		k := e.key
		for _, end := range []*flows.End{&e.flow.From, &e.flow.To} {
			if known, is := ends[end.Address]; is && unknown(*end) {
				*end = known
			}
		}
		k.from, k.to = e.flow.From.Pod, e.flow.To.Pod
		if k == e.key {
			continue
		}
		if h.entries[e.key] == e { // otherwise it is forgotten
			delete(h.entries, e.key)
			h.move(e, k)
		}
		if !unknown(e.flow.From) && !unknown(e.flow.To) {
			h.young[i] = nil
		}
	}
	h.young = slices.DeleteFunc(h.young, func(e *entry) bool { return e == nil })
}

// move gives an entry another key, merging it with an entry that has it already.
func (h *history) move(e *entry, k key) {
	h.next()
	e.key = k
	if other := h.entries[k]; other != nil {
		for i, c := range e.counts {
			if c.n > 0 {
				other.counts[i].add(c.n, c.first, c.last)
			}
		}
		e = other
	}
	h.entries[k] = e
	e.settle(h.version)
}

// forget drops the flows seen longest ago if there are more than most, an eighth at a time.
func (h *history) forget(most int) {
	if len(h.entries) <= most {
		return
	}
	all := make([]*entry, 0, len(h.entries))
	for _, e := range h.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return a.last().Compare(b.last()) })
	for _, e := range all[:len(all)-most*7/8] {
		delete(h.entries, e.key)
	}
}

// last returns when the flow was last seen.
func (e *entry) last() time.Time {
	if all, denied := e.counts[observe.All].last, e.counts[observe.Denied].last; denied.After(all) {
		return denied
	}
	return e.counts[observe.All].last
}

// after returns the parts of the entry that changed after a version.
func (e *entry) after(version uint64) []flows.Flow {
	var all []flows.Flow
	for i, verdict := range [...]flows.Verdict{flows.Allowed, flows.Denied} {
		if p := e.told[i]; p.n > 0 && p.version > version {
			f := e.flow
			f.Verdict, f.Count, f.First, f.Last = verdict, p.n, p.first, p.last
			all = append(all, f)
		}
	}
	return all
}
