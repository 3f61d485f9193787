// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"cmp"
	"maps"
	"slices"

	"github.com/netpold/netpold/nft/delta"
)

// Table is one table of the inet family: what should exist, and where the kernel differs. The zero value is not usable;
// see [NewTable].
type Table struct {
	Name    string
	Comment string // fixed at creation

	sets   map[string]*Set // includes those that must be deleted from the kernel
	dirty  []*Set          // sets that may differ from the kernel's
	chains delta.Map[string, *Chain]
	edited bool // a chain may differ from the kernel's
	known  bool // false: the next transaction replaces whatever the kernel has under this name

	retirement
}

// NewTable returns an empty table. What the kernel holds is not known.
func NewTable(name, comment string) *Table {
	return &Table{Name: name, Comment: CleanComment(comment), sets: make(map[string]*Set)}
}

// SetChain wants c, replacing any chain of that name. It is a no-op if c renders as before. The table keeps c; the
// caller must not change it any more. The kernel cannot change the comment or base of a chain: a name keeps the same
// ones until a transaction has deleted it.
func (t *Table) SetChain(c *Chain) {
	want := t.Chain(c.Name)
	held, _ := t.chains.HeldAt(c.Name)
	switch text := c.text(); {
	case want != nil && want.text() == text:
		c = want
	case held != nil && held != want && held.text() == text:
		c = held // so that a chain that flips back and forth is left alone, with its counters
	}
	t.edited = t.edited || c != want
	t.chains.Set(c.Name, c)
}

// DeleteChain wants no chain of that name. The caller must also delete what refers to it before the next [Table.Take].
func (t *Table) DeleteChain(name string) {
	t.edited = t.edited || t.chains.Want()[name] != nil
	t.chains.Unset(name)
}

// Chain returns the wanted chain of that name, or nil.
func (t *Table) Chain(name string) *Chain { return t.chains.Want()[name] }

// Set returns the wanted set of that name, and makes an empty one if there is none. A name keeps the same type and
// comment until a transaction has deleted it.
func (t *Table) Set(name string, typ SetType, comment string) *Set {
	s := t.sets[name]
	if s == nil {
		s = &Set{Name: name, Type: typ, Comment: CleanComment(comment), table: t}
		t.sets[name] = s
	}
	if !s.wanted {
		// The kernel may still hold it, with its old elements.
		s.elements.clear()
		s.wanted = true
		t.touch(s)
	}
	return s
}

// DeleteSet wants no set of that name. The caller must also delete what refers to it before the next [Table.Take], and
// not use its [Set] any more.
func (t *Table) DeleteSet(name string) {
	s := t.sets[name]
	if s == nil || !s.wanted {
		return
	}
	s.wanted = false
	t.touch(s)
}

// FindSet returns the wanted set of that name, or nil.
func (t *Table) FindSet(name string) *Set {
	if s := t.sets[name]; s != nil && s.wanted {
		return s
	}
	return nil
}

// touch notes that s may differ from the kernel's.
func (t *Table) touch(s *Set) {
	if !s.dirty {
		s.dirty = true
		t.dirty = append(t.dirty, s)
	}
}

// Sets returns the wanted sets by name.
func (t *Table) Sets() []*Set {
	all := make([]*Set, 0, len(t.sets))
	for _, s := range t.sets {
		if s.wanted {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, bySetName)
	return all
}

// Chains returns the wanted chains: base chains by hook and in the order in which the kernel runs them, then the others
// by name.
func (t *Table) Chains() []*Chain {
	return slices.SortedFunc(maps.Values(t.chains.Want()), byChain)
}

func bySetName(a, b *Set) int { return cmp.Compare(a.Name, b.Name) }

func byChain(a, b *Chain) int {
	switch {
	case a.Base != nil && b.Base != nil && *a.Base != *b.Base:
		return cmp.Or(cmp.Compare(a.Base.Hook, b.Base.Hook), cmp.Compare(a.Base.Priority, b.Base.Priority))
	case (a.Base == nil) != (b.Base == nil):
		if a.Base != nil {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.Name, b.Name)
}

// Forget discards what is known about the kernel: the next [Table.Take] replaces the whole table. It is the only
// recovery after a failed transaction or a change by another program.
func (t *Table) Forget() {
	t.known = false
	t.chains.Forget()
	t.retirement = retirement{number: t.number}
	for _, s := range t.sets {
		s.elements.forget()
		s.listed, s.retired, s.late = false, 0, nil
	}
}

// Known says whether the kernel's content is known. If not, the next [Table.Take] replaces the whole table.
func (t *Table) Known() bool { return t.known }

// Changed says whether the next [Table.Take] may have something to do. It costs nothing.
func (t *Table) Changed() bool { return !t.known || len(t.dirty) > 0 || t.edited || t.ripe }

// Take returns the transaction that makes the kernel hold what is wanted, except for what must be retired first, or nil
// if there is nothing to do. Its cost is proportional to the difference. The table considers the transaction committed
// from then on; if it fails, call [Table.Forget]. A set that outgrows its [SetType.Size] gets twice the room that it
// needs: the kernel resizes none, so that this transaction replaces the whole table.
func (t *Table) Take() *Transaction {
	if !t.Changed() {
		return nil
	}
	t.number++
	b := &batch{table: t}
	b.pin()
	sets := t.dirty
	if !t.known {
		sets = slices.Collect(maps.Values(t.sets))
	}
	slices.SortFunc(sets, bySetName)
	for _, s := range sets {
		s.dirty = false
		b.set(s)
	}
	t.dirty = nil
	b.retireElements()
	t.chains.Take(b.dropChain, b.addChain)
	b.retireChains()
	tx := b.transaction()
	t.revive()
	t.known, t.edited, t.ripe = true, false, false
	if b.outgrown {
		t.Forget()
		return t.Take()
	}
	return tx
}
