// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/netpold/netpold/translate/spec"
)

// terms tell who has what a selector may ask for, so that a new selector is not held against each identity of a
// cluster: what it selects is sets of them, cut with each other.
type terms map[term]members

// term is a label, or any label of a key.
type term struct {
	key   unique.Handle[string]
	value string // or anyValue
}

// anyValue is no label's.
const anyValue = "\x00"

// noLabel is the term that all have, whatever their labels; that of a namespace has its name as the value.
func noLabel(value string) term { return term{unique.Make(""), value} }

// words is how many words a set of identities has.
func (x *Index[I, S]) words() int { return len(x.numbered)/64 + 1 }

// podTerms yields the terms of the pods of id, and namespaceTerms those of ns.
func podTerms[I, S any](id *Identity[I, S]) iter.Seq[term] {
	return func(yield func(term) bool) {
		more := yield(noLabel(anyValue))
		for i := 0; more && i < len(id.Labels); i++ {
			l := id.Labels[i]
			more = yield(term(l)) && yield(term{l.key, anyValue})
		}
	}
}

func namespaceTerms[I, S any](ns *Namespace[I, S]) iter.Seq[term] {
	return func(yield func(term) bool) {
		if !yield(noLabel(ns.Name)) || !ns.Known || !yield(noLabel(anyValue)) {
			return
		}
		for key, value := range ns.Labels {
			if k := unique.Make(key); !yield(term{k, value}) || !yield(term{k, anyValue}) {
				return
			}
		}
	}
}

// termsOf lists [namespaceTerms].
func termsOf[I, S any](ns *Namespace[I, S]) []term {
	return slices.AppendSeq(make([]term, 0, 2+2*len(ns.Labels)), namespaceTerms(ns))
}

// without yields those of some terms that are not among others.
func without(some, others []term) iter.Seq[term] {
	return func(yield func(term) bool) {
		for _, t := range some {
			if !slices.Contains(others, t) && !yield(t) {
				return
			}
		}
	}
}

// add adds an identity to those that have some terms; a set of all identities has that many words.
func (ts terms) add(all iter.Seq[term], number uint32, words int) {
	for t := range all {
		if have, known := ts[t]; known {
			ts[t] = have.with(number, words)
		} else {
			ts[t] = members{one: number}
		}
	}
}

// remove undoes add.
func (ts terms) remove(all iter.Seq[term], number uint32) {
	for t := range all {
		if have := ts[t]; have.more == nil {
			delete(ts, t)
		} else {
			ts[t] = have.without(number)
		}
	}
}

// enroll gives a new identity a number, by which it is found.
func (x *Index[I, S]) enroll(id *Identity[I, S]) {
	if id.Idle {
		return
	}
	if last := len(x.vacant) - 1; last >= 0 {
		id.number, x.vacant = x.vacant[last], x.vacant[:last]
	} else {
		id.number = uint32(len(x.numbered))
		x.numbered = append(x.numbered, nil)
	}
	x.numbered[id.number] = id
	x.podTerms.add(podTerms(id), id.number, x.words())
	x.namespaceTerms.add(namespaceTerms(id.Namespace), id.number, x.words())
}

// strike undoes enroll.
func (x *Index[I, S]) strike(id *Identity[I, S]) {
	if id.Idle {
		return
	}
	x.podTerms.remove(podTerms(id), id.number)
	x.namespaceTerms.remove(namespaceTerms(id.Namespace), id.number)
	x.numbered[id.number] = nil
	x.vacant = append(x.vacant, id.number)
}

// find returns the identities of a peer, by what is known now.
func (x *Index[I, S]) find(p spec.Peer) []*Identity[I, S] {
	c := cut{x.scratch[0].sized(x.words()), x.scratch[1].sized(x.words()), 0}
	x.scratch = [2]numbers{c.found, c.wanted}
	from, first := x.podTerms, noLabel(anyValue)
	switch {
	case p.Namespace != "":
		from, first = x.namespaceTerms, noLabel(p.Namespace)
	case p.Namespaces != nil:
		from = x.namespaceTerms
	}
	if some, known := from[first]; known {
		some.addTo(c.found)
	}
	var all []*Identity[I, S]
	if c.by(x.podTerms, p.Pods) && (p.Namespaces == nil || c.by(x.namespaceTerms, p.Namespaces)) {
		for n := range c.found.all {
			all = append(all, x.numbered[n])
		}
	}
	x.Edits += c.looks*x.words()/wordsAnEdit + len(all)/matchesAnEdit
	return all
}

// wordsAnEdit is how many words of sets are cut in the time that it takes to edit an element.
const wordsAnEdit = 1024

// cut is the identities that are found so far.
type cut struct {
	found, wanted numbers // wanted is room for those that one requirement wants
	looks         int     // at sets
}

// by leaves those found that have what sel asks for, and says whether any may be left.
func (c *cut) by(from terms, sel labels.Selector) bool {
	requirements, some := sel.Requirements()
	for i := 0; some && i < len(requirements); i++ {
		r := &requirements[i]
		values := r.ValuesUnsorted()
		if op := r.Operator(); op == selection.Exists || op == selection.DoesNotExist {
			values = []string{anyValue}
		}
		key := unique.Make(r.Key())
		switch r.Operator() {
		case selection.NotIn, selection.DoesNotExist:
			for _, v := range values {
				if have, known := from[term{key, v}]; known {
					have.removeFrom(c.found)
					c.looks++
				}
			}
		default:
			some = c.keep(from, key, values)
		}
	}
	return some
}

// keep leaves those found that have one of some terms, and says whether there are such terms.
func (c *cut) keep(from terms, key unique.Handle[string], values []string) bool {
	clear(c.wanted)
	some := false
	for _, v := range values {
		if have, known := from[term{key, v}]; known {
			have.addTo(c.wanted)
			c.looks++
			some = true
		}
	}
	for i := range c.found {
		c.found[i] &= c.wanted[i]
	}
	return some
}
