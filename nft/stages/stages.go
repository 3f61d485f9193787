// SPDX-License-Identifier: Apache-2.0

// Package stages splits a transaction into stages that are committed one after the other, so that none holds up other
// writers of nf_tables for long, and no packet meets anything half done.
package stages

import (
	"slices"

	"github.com/netpold/netpold/nft"
)

// maxStage is the maximum weight of a stage, see [nft.Op.Weight]. While the kernel commits one, it holds up all other
// writers of the network namespace, for some 30 ms.
const maxStage = 20_000

// Of splits a transaction into stages, to be committed in order: first, in portions, what nothing leads to yet, that is
// new and revived chains and sets with their content; then the rest, which puts it to use; and last what nothing leads
// to any more. A replacement of the whole table is one stage.
//
// A packet in flight (see package nft) can find a new element that leads to a new chain, and that chain without rules,
// so it returns and is accepted. If the chain was there from the commit before, both generations have its rules.
//
// A large detached replacement of the whole table is split, too: the first stage deletes the old table, and the last
// one makes the base chains, so that no packet meets the new table before it is complete, and no stage holds up other
// writers for long.
func Of(tx *nft.Transaction) []*nft.Transaction {
	switch {
	case tx == nil || len(tx.Ops) == 0:
		return nil
	case tx.Replaces() && (!tx.Detached || weight(tx.Ops) <= maxStage):
		return []*nft.Transaction{tx}
	}
	return split(tx)
}

// split splits the transaction into portions of what no packet meets yet, the rest, and portions of what no packet
// meets any more. A chain is deleted after the elements that name it: before Linux 6.4 the kernel does not take both at
// once.
//
// A packet that finds its address in a set without verdicts passes. So many elements of such a set in use may be added
// some portions before the rest, and deleted some portions after it: what passes meanwhile would pass before or after
// anyway.
func split(tx *nft.Transaction) []*nft.Transaction {
	var unreached, first, rest, late, retired, chains []nft.Op
	gone := make(map[*nft.Chain]bool)
	edits := make(map[*nft.Set]int)
	for _, op := range tx.Ops {
		gone[op.Chain] = op.Verb == nft.DeleteChain
		if len(op.Elements) > 0 {
			edits[op.Set]++
		}
	}
	many := func(op nft.Op) bool { return op.Weight() > maxStage && edits[op.Set] == 1 && passes(op.Set) }
	for _, op := range tx.Ops {
		switch {
		case op.First:
			first = append(first, op)
		case op.Verb == nft.AddTable, op.Verb == nft.DeleteTable, op.Unreached, op.Verb == nft.AddElements && many(op):
			unreached = append(unreached, op)
		case op.Verb == nft.DeleteElements && many(op):
			late = append(late, op)
		case op.Verb == nft.DeleteSet, op.Verb == nft.FlushChain && gone[op.Chain]:
			retired = append(retired, op)
		case op.Verb == nft.DeleteChain:
			chains = append(chains, op)
		default:
			rest = append(rest, op)
		}
	}
	stages := append(portions(tx, unreached, 1), portions(tx, first, 2)...)
	for _, ops := range lead(rest) {
		if len(ops) > 0 {
			stages = append(stages, with(tx, ops))
		}
	}
	return slices.Concat(stages, portions(tx, late, 1), portions(tx, retired, 1), portions(tx, chains, 1))
}

// passes says whether finding an element in the set only lets a packet pass. Intervals are excluded: those that touch
// must be deleted and added at once.
func passes(s *nft.Set) bool { return !s.Type.Map && !s.Type.Counter && !s.Type.Interval() }

// lead splits elements that lead packets by goto from the rest, if some lead to chains whose rules change: as with new
// chains, that must not happen before both generations have the rules. Nor may packets that are led away from such a
// chain still be in it after its rules have changed.
func lead(ops []nft.Op) [3][]nft.Op {
	changed := make(map[string]bool)
	for _, op := range ops {
		if op.Verb == nft.FlushChain {
			changed[op.Chain.Name] = true
		}
	}
	away, there := leads(ops, nft.DeleteElements, changed), leads(ops, nft.AddElements, changed)
	if len(there) == 0 {
		return [3][]nft.Op{1: ops}
	}
	var parts [3][]nft.Op
	for _, op := range ops {
		var of [3]nft.Op
		for _, e := range op.Elements {
			part := 1
			switch led := (lookupKey{op.Set, e.Key}); {
			case there[led]:
				part = 2
			case away[led]:
				part = 0
			}
			of[part].Elements = append(of[part].Elements, e)
		}
		for part, some := range of {
			if len(some.Elements) > 0 || part == 1 && len(op.Elements) == 0 {
				op.Elements = some.Elements
				parts[part] = append(parts[part], op)
			}
		}
	}
	return parts
}

// lookupKey is a key in a set.
type lookupKey struct {
	set *nft.Set
	key nft.Key
}

// leads returns the keys of the elements that a verb's operations lead to one of the chains.
func leads(ops []nft.Op, verb nft.Verb, chains map[string]bool) map[lookupKey]bool {
	keys := make(map[lookupKey]bool)
	for _, op := range ops {
		if op.Verb != verb || op.Set.Type.Interval() {
			continue
		}
		for _, e := range op.Elements {
			if e.Verdict.Kind == nft.Goto && chains[e.Verdict.Chain] {
				keys[lookupKey{op.Set, e.Key}] = true
			}
		}
	}
	return keys
}

// portions returns transactions of at most maxStage each. As many operations in a row as together says are never in
// different ones: they delete and add the same keys, and each key is always there.
func portions(tx *nft.Transaction, ops []nft.Op, together int) []*nft.Transaction {
	var stages []*nft.Transaction
	var portion []nft.Op
	room := maxStage
	for len(ops) > 0 {
		some := ops[:together]
		if n := len(some[0].Elements); weight(some) > room && n > 1 { // as much of it as fits
			n = max(1, room*n/weight(some))
			some = slices.Clone(some)
			for i := range some {
				some[i].Elements, ops[i].Elements = some[i].Elements[:n], some[i].Elements[n:]
			}
		} else {
			ops = ops[together:]
		}
		portion = append(portion, some...)
		if room -= weight(some); room <= 0 || len(ops) == 0 {
			stages = append(stages, with(tx, portion))
			portion, room = nil, maxStage
		}
	}
	return stages
}

// with returns a transaction on the same table with other operations.
func with(tx *nft.Transaction, ops []nft.Op) *nft.Transaction {
	return &nft.Transaction{Table: tx.Table, Comment: tx.Comment, Ops: ops}
}

func weight(ops []nft.Op) int {
	sum := 0
	for _, op := range ops {
		sum += op.Weight()
	}
	return sum
}
