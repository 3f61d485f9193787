// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
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

	// Unreached says that no packet can come to the object when the transaction begins: it is new, or revived.
	Unreached bool

	// First says that this is to be committed before what changes the rules by which packets come here. It is the first
	// of two operations, which delete and add the same keys at the same places.
	First bool
}

// Transaction is a list of operations on one table that the kernel commits all or none. The order of the operations is
// the order of dependency: what is referred to is there before, and goes after, what refers to it; elements are deleted
// before others are added.
type Transaction struct {
	Table   string
	Comment string // the table's
	Ops     []Op

	// Detached says that the table may deny nothing while it is replaced: another one does, with the same rules. So the
	// replacement may be split.
	Detached bool
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
