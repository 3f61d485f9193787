// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"maps"
	"slices"
)

// retirement is what a table keeps in the kernel although it is no longer wanted; the package doc says why.
type retirement struct {
	number  uint64 // of the last transaction
	settled uint64 // the last one that all packets in flight have seen
	// held and unwanted chains, each with the transaction that removed what led to it
	retired map[string]uint64
	waiting []*Set // sets that are retired, or have retired elements
	ripe    bool   // the next transaction has something retired to delete
}

// late is what the kernel holds at a key of a set, although it is not wanted there: a retired element, or a bridge.
type late struct {
	number uint64 // the last transaction that needs it
	bridge bool
	to     Verdict // where a bridge's key is wanted to lead; zero: nowhere
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
	return slices.ContainsFunc(t.waiting, func(s *Set) bool { return s.wanted && len(s.late) > 0 })
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
		for _, l := range s.late {
			ripe = ripe || l.number <= t.settled
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
	maps.DeleteFunc(t.retired, func(name string, _ uint64) bool { return t.Chain(name) != nil })
	t.waiting = slices.DeleteFunc(t.waiting, func(s *Set) bool {
		s.listed = t.sets[s.Name] == s && (s.retired != 0 || len(s.late) > 0)
		return !s.listed
	})
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
	if ripe && !b.pinned.sets[s.Name] {
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
	}
	if s.Type.Counter { // the kernel reports the final counts of deleted elements, but not of deleted sets
		for _, k := range slices.Collect(s.elements.held()) {
			drop(k)
		}
	}
	for k, l := range s.late {
		if l.number <= b.table.settled {
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
		if ripe && !b.pinned.chains[name] {
			delete(t.retired, name)
			continue
		}
		put(&t.retired, name, number)
		t.chains.Keep(name, c)
		delete(b.delChains, name)
	}
}

// retireElements leaves in the edits only dropped elements that may go, and retires the others.
func (b *batch) retireElements() {
	for i := range b.edits {
		e := &b.edits[i]
		s := e.set
		if !s.wanted {
			continue
		}
		if !e.unreached && s.Type.Map && !s.Type.Interval() {
			b.bridge(e)
		}
		for k, l := range s.late {
			if _, wanted := s.Get(k); wanted && !l.bridge || e.unreached {
				delete(s.late, k)
			}
		}
		if !e.unreached && !s.Type.Interval() {
			e.drop = slices.DeleteFunc(e.drop, func(d Element) bool { return b.retireElement(s, d) })
		}
	}
}

// retireElement says whether a dropped element of s must be retired, and retires it.
func (b *batch) retireElement(s *Set, d Element) bool {
	since := s.late[d.Key].number
	if _, wanted := s.Get(d.Key); wanted || d.Verdict.Kind == Goto || since == 0 && !b.replaces(s, d.Key) {
		return false
	}
	number, ripe := b.table.retire(since)
	if ripe {
		delete(s.late, d.Key)
		return false
	}
	put(&s.late, d.Key, late{number: number})
	s.elements.keep(d.Key, d.Value)
	b.table.wait(s)
	return true
}

// replacements are the parts of a transaction that may allow packets that a dropped element allowed.
type replacements struct {
	table  *Table
	left   reached             // by the old rules, and perhaps not by the new
	added  map[[16]byte][]*Set // the sets that an address is added to
	chains map[string][]*Chain // the chains that look up a set; nil until needed
}

// replaces says whether packets that k in s allowed may be allowed in another way.
func (b *batch) replaces(s *Set, k Key) bool {
	if b.replacements == nil {
		b.replacements = b.replacing()
	}
	r := b.replacements
	return r.left.sets[s.Name] || slices.ContainsFunc(r.added[k.Addr], func(other *Set) bool {
		return other != s && r.together(s, other)
	})
}

// replacing returns the replacements in the current transaction.
func (b *batch) replacing() *replacements {
	t := b.table
	r := &replacements{table: t}
	for name := range t.chains.Changed() {
		if t.retired[name] == 0 {
			r.left.add(t, name)
		}
	}
	for _, e := range b.edits {
		for _, d := range e.drop {
			if d.Verdict.Kind == Goto && !e.unreached {
				r.left.add(t, d.Verdict.Chain)
			}
		}
		for _, a := range e.add {
			if a.Verdict.Kind != Goto && !e.set.Type.Counter {
				put(&r.added, a.Addr, append(r.added[a.Addr], e.set))
			}
		}
	}
	return r
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

// reached are chains that packets may be in, and the sets that they look up there.
type reached struct{ chains, sets map[string]bool }

// add adds a chain as the kernel holds it, and what its rules lead to.
func (r *reached) add(t *Table, chain string) {
	c, held := t.chains.HeldAt(chain)
	if !held || r.chains[chain] {
		return
	}
	put(&r.chains, chain, true)
	for statement := range c.statements() {
		switch s := statement.(type) {
		case Lookup:
			put(&r.sets, s.Set, true)
		case Verdict:
			r.add(t, s.Chain)
		}
	}
}
