// SPDX-License-Identifier: Apache-2.0

package nft

import "slices"

// batch gathers the operations of a transaction by phase.
type batch struct {
	table     *Table
	addSets   []Op
	addChains []*Chain
	edits     []edit            // for sets that stay
	bridges   []edit            // keys that lead to two chains for a while
	changed   []*Chain          // held and wanted, with different rules
	delSets   []Op              // those that are ripe
	delChains map[string]*Chain // held and not wanted; in the end, only those that are ripe
	pinned    reached           // what must not be deleted yet
	met       map[*Chain]bool   // chains of changed that packets may be in: those not revived
	outgrown  bool              // a set has too little room in the kernel

	replacements *replacements // nil until needed
}

// edit is the change of a set's elements.
type edit struct {
	set       *Set
	drop, add []Element
	unreached bool
}

// set gathers the operations for one set.
func (b *batch) set(s *Set) {
	if b.table.sets[s.Name] != s { // deleted long ago, yet edited
		return
	}
	held := s.elements.known()
	switch {
	case !s.wanted && !held:
		delete(b.table.sets, s.Name)
		return
	case !s.wanted:
		b.retireSet(s)
		return
	case !held:
		b.addSets = append(b.addSets, Op{Verb: AddSet, Set: s, Unreached: true})
	}
	e := edit{set: s, unreached: !held || s.retired != 0}
	s.retired = 0
	if !held {
		e.add = make([]Element, 0, s.Len())
	}
	stay := s.elements.heldLen() + len(s.late) // at most
	s.elements.take(
		func(k Key, v Value) { e.drop = append(e.drop, Element{k, v}) },
		func(k Key, v Value) { e.add = append(e.add, Element{k, v}) })
	sortElements(e.drop)
	sortElements(e.add)
	b.edits = append(b.edits, e)
	if room := s.Type.room(stay + len(e.add)); room != s.Type.Size {
		s.Type.Size, b.outgrown = room, true
	}
}

// dropChain and addChain gather the chains. One that is dropped and added again is changed in place.
func (b *batch) dropChain(name string, c *Chain) { put(&b.delChains, name, c) }

func (b *batch) addChain(name string, c *Chain) {
	if b.delChains[name] == nil {
		b.addChains = append(b.addChains, c)
		return
	}
	delete(b.delChains, name)
	b.changed = append(b.changed, c)
	if b.table.retired[name] == 0 {
		put(&b.met, c, true)
	}
}

// put sets a key of a map, which it makes if there is none: most transactions need few of those of a batch.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// transaction puts the phases in order. Only this function knows the order.
func (b *batch) transaction() *Transaction {
	tx := &Transaction{Table: b.table.Name, Comment: b.table.Comment}
	slices.SortFunc(b.addChains, byChain)
	slices.SortFunc(b.changed, byChain)
	var deleted []*Chain // not by maps.Values, which allocates where there are none
	for _, c := range b.delChains {
		deleted = append(deleted, c)
	}
	slices.SortFunc(deleted, byChain)

	if !b.table.known { // add before delete: deleting a missing table fails
		tx.Ops = append(tx.Ops, Op{Verb: AddTable}, Op{Verb: DeleteTable}, Op{Verb: AddTable})
	}
	// before the sets: nft 1.0.6 adds the elements of a new interval map together with the map
	b.chains(tx, AddChain, b.addChains)
	tx.Ops = append(tx.Ops, b.addSets...)
	for _, e := range b.bridges {
		tx.Ops = append(tx.Ops, Op{Verb: DeleteElements, Set: e.set, Elements: e.drop, First: true},
			Op{Verb: AddElements, Set: e.set, Elements: e.add, First: true})
	}
	for _, e := range b.edits {
		tx.elements(DeleteElements, e, e.drop)
	}
	b.chains(tx, FlushChain, b.changed)
	b.rules(tx, b.changed)
	b.rules(tx, b.addChains)
	for _, e := range b.edits {
		tx.elements(AddElements, e, e.add)
	}
	b.chains(tx, FlushChain, deleted)
	tx.Ops = append(tx.Ops, b.delSets...) // their rules and elements may refer to chains
	b.chains(tx, DeleteChain, deleted)
	if len(tx.Ops) == 0 {
		return nil
	}
	return tx
}

func (tx *Transaction) elements(v Verb, e edit, some []Element) {
	if len(some) > 0 {
		tx.Ops = append(tx.Ops, Op{Verb: v, Set: e.set, Elements: some, Unreached: e.unreached})
	}
}

// unreached says whether no packet can reach a wanted or ripe chain when the transaction begins.
func (b *batch) unreached(c *Chain) bool {
	return c.Base == nil && !b.met[c] && b.delChains[c.Name] == nil
}

func (b *batch) chains(tx *Transaction, v Verb, chains []*Chain) {
	for _, c := range chains {
		tx.Ops = append(tx.Ops, Op{Verb: v, Chain: c, Unreached: b.unreached(c)})
	}
}

func (b *batch) rules(tx *Transaction, chains []*Chain) {
	for _, c := range chains {
		for i := range c.Rules {
			tx.Ops = append(tx.Ops, Op{Verb: AddRule, Chain: c, Rule: &c.Rules[i], Unreached: b.unreached(c)})
		}
	}
}
