// SPDX-License-Identifier: Apache-2.0

package nft

import "slices"

// retirement is what a table keeps in the kernel although it is no longer wanted; the package doc says why.
type retirement struct {
	number  uint64 // of the last transaction
	settled uint64 // the last one that all packets in flight have seen
	// held and unwanted chains, each with the transaction that removed what led to it
	retired map[string]uint64
	waiting []*Set // sets that are retired, or have retired elements
	ripe    bool   // the next transaction has something retired to delete
}

// Retired returns the number of the last transaction if something is retired, for [Table.Reap], and 0 if nothing is.
func (t *Table) Retired() uint64 {
	if len(t.retired) == 0 && len(t.waiting) == 0 {
		return 0
	}
	return t.number
}

// Late says whether the kernel holds unwanted elements, which still allow what is no longer allowed.
func (t *Table) Late() bool {
	for _, s := range t.waiting {
		if s.wanted && len(s.late)+len(s.bridged) > 0 {
			return true
		}
	}
	return false
}

// Reap says that every packet from before the commit of the transaction of that number has left: the next [Table.Take]
// deletes what was retired up to it, unless it is wanted again.
func (t *Table) Reap(number uint64) {
	t.settled = max(t.settled, number)
	for _, n := range t.retired {
		t.ripe = t.ripe || n <= t.settled
	}
	for _, s := range t.waiting {
		ripe := s.retired != 0 && s.retired <= t.settled
		for _, n := range s.late {
			ripe = ripe || n <= t.settled
		}
		for _, at := range s.bridged {
			ripe = ripe || at.number <= t.settled
		}
		if ripe {
			t.ripe = true
			t.touch(s)
		}
	}
}

// retire notes that the current transaction removes what leads to something, unless an earlier one did. It returns that
// transaction's number, and whether the thing may go.
func (t *Table) retire(since uint64) (number uint64, ripe bool) {
	if since == 0 {
		return t.number, false
	}
	return since, since <= t.settled
}

// revive forgets the retirement of what is wanted again, or gone.
func (t *Table) revive() {
	for name := range t.retired {
		if t.chains.Want()[name] != nil {
			delete(t.retired, name)
		}
	}
	still := t.waiting[:0]
	for _, s := range t.waiting {
		s.listed = t.sets[s.Name] == s && (s.retired != 0 || len(s.late)+len(s.bridged) > 0)
		if s.listed {
			still = append(still, s)
		}
	}
	clear(t.waiting[len(still):])
	t.waiting = still
}

// wait adds a set to waiting.
func (t *Table) wait(s *Set) {
	if !s.listed {
		s.listed = true
		t.waiting = append(t.waiting, s)
	}
}

// retireSet retires a set that the kernel holds, or deletes it.
func (b *batch) retireSet(s *Set) {
	number, ripe := b.table.retire(s.retired)
	s.retired = number
	if ripe && !b.pinned[s.Name] {
		delete(b.table.sets, s.Name)
		b.delSets = append(b.delSets, Op{Verb: DeleteSet, Set: s})
		return
	}
	b.table.wait(s)
	e := edit{set: s} // the chains of these elements may be ripe before the set
	drop := func(k Key) {
		if v, held := s.elements.heldAt(k); held {
			e.drop = append(e.drop, Element{k, v})
			s.elements.lose(k)
		}
		delete(s.late, k)
		delete(s.bridged, k)
	}
	if s.Type.Counter { // the kernel reports the final counts of deleted elements, but not of deleted sets
		for _, k := range slices.Collect(s.elements.held()) {
			drop(k)
		}
	}
	for k, n := range s.late {
		if n <= b.table.settled {
			drop(k)
		}
	}
	for k, at := range s.bridged {
		if at.number <= b.table.settled {
			drop(k)
		}
	}
	sortElements(e.drop)
	b.edits = append(b.edits, e)
}

// retireChains leaves only ripe chains in delChains.
func (b *batch) retireChains() {
	t := b.table
	for name, c := range b.delChains {
		number, ripe := t.retire(t.retired[name])
		if ripe && !b.pinned[name] {
			delete(t.retired, name)
			continue
		}
		if t.retired == nil {
			t.retired = make(map[string]uint64)
		}
		t.retired[name] = number
		t.chains.Keep(name, c)
		delete(b.delChains, name)
	}
}

// retireElements leaves in the edits only dropped elements that may go, and retires the others.
func (b *batch) retireElements() {
	var r *replacements
	for i := range b.edits {
		e := &b.edits[i]
		s := e.set
		if !s.wanted {
			continue
		}
		if e.unreached {
			s.bridged = nil
		} else if s.Type.Map && !s.Type.Interval() {
			b.bridge(e, func(k Key) bool {
				if r == nil {
					r = b.replacements()
				}
				return r.of(s, k)
			})
		}
		for k := range s.late {
			if _, wanted := s.Get(k); wanted || e.unreached {
				delete(s.late, k)
			}
		}
		if len(e.drop) == 0 || e.unreached || s.Type.Interval() {
			continue
		}
		if r == nil {
			r = b.replacements()
		}
		drop := e.drop[:0]
		for _, d := range e.drop {
			if !b.late(r, s, d) {
				drop = append(drop, d)
			}
		}
		e.drop = drop
	}
}

// late says whether a dropped element of s must be retired.
func (b *batch) late(r *replacements, s *Set, d Element) bool {
	since := s.late[d.Key]
	if _, wanted := s.Get(d.Key); wanted || d.Verdict.Kind == Goto || since == 0 && !r.of(s, d.Key) {
		return false
	}
	number, ripe := b.table.retire(since)
	if ripe {
		delete(s.late, d.Key)
		return false
	}
	if s.late == nil {
		s.late = make(map[Key]uint64)
	}
	s.late[d.Key] = number
	s.elements.keep(d.Key, d.Value)
	b.table.wait(s)
	return true
}

// replacements are the parts of a transaction that may allow packets that a dropped element allowed.
type replacements struct {
	table  *Table
	left   map[string]bool     // sets that packets look up by the old rules, and perhaps not by the new
	seen   map[string]bool     // chains whose sets are in left
	added  map[[16]byte][]*Set // the sets that an address is added to
	chains map[string][]*Chain // the chains that look up a set; nil until needed
}

// replacements returns the replacements in the current transaction.
func (b *batch) replacements() *replacements {
	t := b.table
	r := &replacements{table: t}
	for name := range t.chains.Changed() {
		if t.retired[name] == 0 {
			r.leave(name)
		}
	}
	for _, e := range b.edits {
		for _, d := range e.drop {
			if d.Verdict.Kind == Goto && !e.unreached {
				r.leave(d.Verdict.Chain)
			}
		}
		for _, a := range e.add {
			if a.Verdict.Kind != Goto && !e.set.Type.Counter {
				if r.added == nil {
					r.added = make(map[[16]byte][]*Set)
				}
				r.added[a.Addr] = append(r.added[a.Addr], e.set)
			}
		}
	}
	return r
}

// of says whether packets that k in s allowed may be allowed in another way.
func (r *replacements) of(s *Set, k Key) bool {
	return r.left[s.Name] || slices.ContainsFunc(r.added[k.Addr], func(other *Set) bool {
		return other != s && r.together(s, other)
	})
}

// together says whether a chain looks up both sets.
func (r *replacements) together(one, other *Set) bool {
	if r.chains == nil {
		r.chains = make(map[string][]*Chain)
		for _, c := range r.table.chains.Want() {
			for s := range c.statements() {
				if l, ok := s.(Lookup); ok {
					r.chains[l.Set] = append(r.chains[l.Set], c)
				}
			}
		}
	}
	return slices.ContainsFunc(r.chains[one.Name], func(c *Chain) bool {
		return slices.Contains(r.chains[other.Name], c)
	})
}

// leave notes the sets that packets look up in the kernel's version of a chain, and in the chains that its rules lead
// to.
func (r *replacements) leave(name string) {
	c, held := r.table.chains.HeldAt(name)
	if !held || r.seen[name] {
		return
	}
	if r.seen == nil {
		r.seen, r.left = make(map[string]bool), make(map[string]bool)
	}
	r.seen[name] = true
	for statement := range c.statements() {
		switch s := statement.(type) {
		case Lookup:
			r.left[s.Set] = true
		case Verdict:
			r.leave(s.Chain)
		}
	}
}
