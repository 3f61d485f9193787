// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"strings"
)

// Verb is what an operation does with its object.
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
	Set      *Set      // for the set and element verbs; only its name, type and comment may be read
	Chain    *Chain    // of the chain verbs and AddRule
	Rule     *Rule     // of AddRule
	Elements []Element // of the element verbs

	// Unreached says that no packet can reach the object when the transaction begins: it is new or revived.
	Unreached bool

	// First says that this must be committed before the rules change by which packets get here. It marks the first of
	// two operations that delete and add the same keys.
	First bool
}

// Transaction is a list of operations on one table, of which the kernel commits all or none. They are in order of
// dependency: objects are added before and deleted after what refers to them; elements are deleted before others are
// added.
type Transaction struct {
	Table   string
	Comment string // the table's
	Ops     []Op

	// Detached says that the table need not be in force while it is replaced, because another table with the same rules
	// is. So the replacement may be split.
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

// command returns the verb, kind of object and name of the operation's nft(8) command; a table's command has no name.
func (op Op) command() (verb, object, name string) {
	verb, object, _ = strings.Cut([...]string{
		AddTable: "add table", DeleteTable: "delete table", AddSet: "add set", DeleteSet: "delete set",
		AddChain: "add chain", FlushChain: "flush chain", DeleteChain: "delete chain", AddRule: "add rule",
		AddElements: "add element", DeleteElements: "delete element",
	}[op.Verb], " ")
	switch {
	case op.Chain != nil:
		name = op.Chain.Name
	case op.Set != nil:
		name = op.Set.Name
	}
	if object == "set" {
		object = op.Set.Type.keyword()
	}
	return verb, object, name
}

// Describe names the operation's object in an error, such as "add set ingress-pods-4".
func (op Op) Describe() string {
	verb, object, name := op.command()
	switch op.Verb {
	case AddRule:
		return "add rule to chain " + name + ": " + op.Rule.String()
	case AddElements:
		return "add elements to " + op.Set.Type.keyword() + " " + name
	case DeleteElements:
		return "delete elements from " + op.Set.Type.keyword() + " " + name
	}
	return strings.TrimSpace(verb + " " + object + " " + name)
}

// text returns the operation as one command of nft(8).
func (op Op) text(tx *Transaction) string {
	verb, object, name := op.command()
	text := strings.TrimSpace(verb + " " + object + " inet " + tx.Table + " " + name)
	switch op.Verb {
	case AddTable:
		if tx.Comment != "" {
			text += fmt.Sprintf(" { comment %q; }", tx.Comment)
		}
	case AddSet:
		text += " { " + strings.Join(op.Set.declaration(), "; ") + "; }"
	case AddChain:
		text += " { " + strings.Join(op.Chain.declaration(), " ") + " }"
	case AddRule:
		text += " " + op.Rule.String()
	case AddElements, DeleteElements:
		items := make([]string, len(op.Elements))
		for i, e := range op.Elements {
			items[i] = e.Text(op.Set.Type)
			if op.Verb == DeleteElements {
				items[i] = e.keyText(op.Set.Type)
			}
		}
		text += " { " + strings.Join(items, ", ") + " }"
	}
	return text
}

// PerObject is the weight of a chain, set or rule.
const PerObject = 10

// Weight measures how long the kernel takes for the operation: an element weighs 1, an interval 2, for its two ends,
// and a chain, set or rule PerObject.
func (op Op) Weight() int {
	if len(op.Elements) > 0 {
		return len(op.Elements) * op.Set.Type.Weight()
	}
	weight := PerObject
	if op.Rule != nil {
		for _, statement := range op.Rule.Statements {
			if ports, ok := statement.(Ports); ok {
				// a set: the kernel searches for its name among all others
				weight += 5*PerObject + len(ports)*PerObject/2
			}
		}
	}
	return weight
}

// Weight is the weight of an element of a set.
func (t SetType) Weight() int {
	if t.Interval() {
		return 2
	}
	return 1
}
