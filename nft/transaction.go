// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"slices"
	"strings"
)

// Verb is what an operation does to its object.
type Verb uint8

// The verbs, in nft(8)'s words.
const (
	AddTable Verb = iota
	DeleteTable
	AddSet
	DeleteSet
	AddChain
	FlushChain
	DeleteChain
	AddRule
	AddElements
	DeleteElements
)

// Op is one operation of a transaction.
type Op struct {
	Verb     Verb
	Set      *Set      // of the set and element verbs; only its name, type and comment are to be read
	Chain    *Chain    // of the chain verbs and AddRule
	Rule     *Rule     // of AddRule
	Elements []Element // of the element verbs
}

// Transaction is a list of operations on one table that the kernel commits all or none. The order of the operations is the order of
// dependency: what is referred to is there before, and goes after, what refers to it; elements are deleted before others are added.
type Transaction struct {
	Table   string
	Comment string // the table's
	Ops     []Op
}

// Len counts the operations, each element as one.
func (tx *Transaction) Len() int {
	n := 0
	for _, op := range tx.Ops {
		n += max(1, len(op.Elements))
	}
	return n
}

// Replaces says whether the transaction replaces the whole table.
func (tx *Transaction) Replaces() bool { return len(tx.Ops) > 0 && tx.Ops[0].Verb == AddTable }

// String returns the transaction as a script for `nft -f`.
func (tx *Transaction) String() string {
	var b strings.Builder
	for _, op := range tx.Ops {
		fmt.Fprintln(&b, op.text(tx))
	}
	return b.String()
}

// Describe names the operation's object in an error, as "set ingress-pods-4".
func (op Op) Describe() string {
	switch op.Verb {
	case AddTable:
		return "add table"
	case DeleteTable:
		return "delete table"
	case AddSet:
		return "add " + op.Set.Type.keyword() + " " + op.Set.Name
	case DeleteSet:
		return "delete " + op.Set.Type.keyword() + " " + op.Set.Name
	case AddChain:
		return "add chain " + op.Chain.Name
	case FlushChain:
		return "flush chain " + op.Chain.Name
	case DeleteChain:
		return "delete chain " + op.Chain.Name
	case AddRule:
		return "add rule to chain " + op.Chain.Name + ": " + op.Rule.String()
	case AddElements:
		return "add elements to " + op.Set.Type.keyword() + " " + op.Set.Name
	}
	return "delete elements from " + op.Set.Type.keyword() + " " + op.Set.Name
}

// text returns the operation as one command of nft(8).
func (op Op) text(tx *Transaction) string {
	table := "inet " + tx.Table
	switch op.Verb {
	case AddTable:
		if tx.Comment == "" {
			return "add table " + table
		}
		return fmt.Sprintf("add table %s { comment %q; }", table, tx.Comment)
	case DeleteTable:
		return "delete table " + table
	case AddSet:
		lines := strings.Join(op.Set.declaration(), "; ")
		return fmt.Sprintf("add %s %s %s { %s; }", op.Set.Type.keyword(), table, op.Set.Name, lines)
	case DeleteSet:
		return fmt.Sprintf("delete %s %s %s", op.Set.Type.keyword(), table, op.Set.Name)
	case AddChain:
		return fmt.Sprintf("add chain %s %s { %s }", table, op.Chain.Name, strings.Join(op.Chain.declaration(), " "))
	case FlushChain:
		return fmt.Sprintf("flush chain %s %s", table, op.Chain.Name)
	case DeleteChain:
		return fmt.Sprintf("delete chain %s %s", table, op.Chain.Name)
	case AddRule:
		return fmt.Sprintf("add rule %s %s %s", table, op.Chain.Name, op.Rule)
	}
	verb := "add"
	if op.Verb == DeleteElements {
		verb = "delete"
	}
	items := make([]string, len(op.Elements))
	for i, e := range op.Elements {
		if op.Verb == DeleteElements {
			items[i] = e.keyText(op.Set.Type)
		} else {
			items[i] = e.Text(op.Set.Type)
		}
	}
	return fmt.Sprintf("%s element %s %s { %s }", verb, table, op.Set.Name, strings.Join(items, ", "))
}

// batch gathers the operations of a transaction by the phase they belong to.
type batch struct {
	table       *Table
	addSets     []Op
	addChains   []*Chain
	delElements []Op
	changed     []*Chain // held and wanted, with other rules
	addElements []Op
	delSets     []Op
	delChains   map[string]*Chain
}

func newBatch(t *Table) *batch { return &batch{table: t, delChains: make(map[string]*Chain)} }

// set gathers what one set needs.
func (b *batch) set(s *Set) {
	if b.table.sets[s.Name] != s { // deleted long ago, and yet edited
		return
	}
	held := s.elements.known()
	switch {
	case !s.wanted && held:
		b.delSets = append(b.delSets, Op{Verb: DeleteSet, Set: s})
		fallthrough
	case !s.wanted:
		delete(b.table.sets, s.Name)
		return
	case !held:
		b.addSets = append(b.addSets, Op{Verb: AddSet, Set: s})
	}
	var drop, add []Element
	if !held {
		add = make([]Element, 0, s.Len())
	}
	s.elements.pending(
		func(k Key, v Value) { drop = append(drop, Element{k, v}) },
		func(k Key, v Value) { add = append(add, Element{k, v}) })
	if len(drop) > 0 {
		sortElements(drop)
		b.delElements = append(b.delElements, Op{Verb: DeleteElements, Set: s, Elements: drop})
	}
	if len(add) > 0 {
		sortElements(add)
		b.addElements = append(b.addElements, Op{Verb: AddElements, Set: s, Elements: add})
	}
}

// dropChain and addChain gather the chains: one that is dropped and added again is changed in place.
func (b *batch) dropChain(name string, c *Chain) { b.delChains[name] = c }

func (b *batch) addChain(name string, c *Chain) {
	if b.delChains[name] != nil {
		delete(b.delChains, name)
		b.changed = append(b.changed, c)
		return
	}
	b.addChains = append(b.addChains, c)
}

// transaction puts the phases in order. This is the only place that knows it.
func (b *batch) transaction() *Transaction {
	tx := &Transaction{Table: b.table.Name, Comment: b.table.Comment}
	slices.SortFunc(b.addChains, byChain)
	slices.SortFunc(b.changed, byChain)
	var deleted []*Chain
	for _, c := range b.delChains {
		deleted = append(deleted, c)
	}
	slices.SortFunc(deleted, byChain)

	if !b.table.known { // add before delete: deleting a table that is not there fails
		tx.Ops = append(tx.Ops, Op{Verb: AddTable}, Op{Verb: DeleteTable}, Op{Verb: AddTable})
	}
	tx.chains(AddChain, b.addChains) // before the sets: nft 1.0.6 adds the elements of a new interval map together with the map
	tx.Ops = append(tx.Ops, b.addSets...)
	tx.Ops = append(tx.Ops, b.delElements...)
	tx.chains(FlushChain, b.changed)
	tx.chains(FlushChain, deleted)
	tx.rules(b.changed)
	tx.rules(b.addChains)
	tx.Ops = append(tx.Ops, b.addElements...)
	tx.Ops = append(tx.Ops, b.delSets...) // their rules and elements may refer to chains
	tx.chains(DeleteChain, deleted)
	if len(tx.Ops) == 0 {
		return nil
	}
	return tx
}

func (tx *Transaction) chains(v Verb, chains []*Chain) {
	for _, c := range chains {
		tx.Ops = append(tx.Ops, Op{Verb: v, Chain: c})
	}
}

func (tx *Transaction) rules(chains []*Chain) {
	for _, c := range chains {
		for i := range c.Rules {
			tx.Ops = append(tx.Ops, Op{Verb: AddRule, Chain: c, Rule: &c.Rules[i]})
		}
	}
}
