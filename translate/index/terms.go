// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// term is a label, or any label with a key.
type term struct {
	key   unique.Handle[string] // there are few in a cluster
	value string                // or anyValue
}

// anyValue is not a valid label value.
const anyValue = "\x00"

// labelled are things with labels, each by a number and by its terms, so that a new selector is not held against each
// of them: what it selects is sets of numbers, cut with each other. What equal labels have in common is stored once.
type labelled[T any] struct {
	things   []*T     // by number; nil where nobody has it
	vacant   []uint32 // numbers that nobody has
	everyone numbers
	crowded  map[uint32]*packed // those with more than maxTerms labels, which have no terms

	ids     map[term]uint32
	entries []entry // of the terms, by id
	free    []uint32
	scratch numbers
	cut     int // words of sets, so far
}

// entry is one term, and the numbers of all that have it.
type entry struct {
	term
	members
	any uint32 // the id of any label of the key
}

func newLabelled[T any]() labelled[T] {
	return labelled[T]{ids: make(map[term]uint32), crowded: make(map[uint32]*packed)}
}

// words is how many words a set of all numbers has.
func (l *labelled[T]) words() int { return len(l.things)/64 + 1 }

// enter gives a thing a number. It returns that, and the ids of its labels, if it is not crowded.
func (l *labelled[T]) enter(t *T, set map[string]string) (number uint32, ids []uint32) {
	if last := len(l.vacant) - 1; last >= 0 {
		number, l.vacant = l.vacant[last], l.vacant[:last]
	} else {
		number = uint32(len(l.things))
		l.things = append(l.things, nil)
		l.everyone = append(l.everyone, make(numbers, l.words()-len(l.everyone))...)
	}
	l.things[number] = t
	l.everyone.add(number)
	if len(set) > maxTerms {
		l.crowded[number] = pack(set)
		return number, nil
	}
	ids = make([]uint32, 0, len(set))
	for key, value := range set {
		k := unique.Make(key)
		some := l.add(term{k, anyValue}, number)
		id := l.add(term{k, value}, number)
		l.entries[id].any = some
		ids = append(ids, id)
	}
	return number, ids
}

// add adds a number to those that have a term, and returns the term's id.
func (l *labelled[T]) add(t term, number uint32) uint32 {
	id, known := l.ids[t]
	if known {
		l.entries[id].with(number, l.words())
		return id
	}
	if last := len(l.free) - 1; last >= 0 {
		id, l.free = l.free[last], l.free[:last]
	} else {
		id = uint32(len(l.entries))
		l.entries = append(l.entries, entry{})
	}
	l.entries[id] = entry{term: t, members: members{one: number}}
	l.ids[t] = id
	return id
}

// leave undoes enter.
func (l *labelled[T]) leave(number uint32, ids []uint32) {
	for _, id := range ids {
		l.remove(l.entries[id].any, number)
		l.remove(id, number)
	}
	delete(l.crowded, number)
	l.things[number] = nil
	l.everyone.remove(number)
	l.vacant = append(l.vacant, number)
}

// remove undoes add.
func (l *labelled[T]) remove(id, number uint32) {
	e := &l.entries[id]
	if e.more != nil {
		e.without(number)
		return
	}
	delete(l.ids, e.term)
	*e = entry{}
	l.free = append(l.free, id)
}

// find returns the numbers of those that meet the requirements of a selector, which may be more than it matches: for a
// long list of values, a weaker one stands there. The set is not to be changed, and good until the next call.
func (l *labelled[T]) find(sel labels.Selector) numbers {
	requirements, some := sel.Requirements()
	if some && len(requirements) == 0 {
		return l.everyone
	}
	l.scratch = l.scratch.sized(2 * l.words())
	found, wanted := l.scratch[:l.words()], l.scratch[l.words():]
	if !some {
		return found
	}
	copy(found, l.everyone)
	for i := range requirements {
		r := &requirements[i]
		if without := r.Operator(); without == selection.NotIn || without == selection.DoesNotExist {
			for t := range termsOf(r) {
				if id, known := l.ids[t]; known {
					l.entries[id].removeFrom(found)
					l.cut += l.words()
				}
			}
			continue
		}
		clear(wanted)
		for t := range termsOf(r) {
			if id, known := l.ids[t]; known {
				l.entries[id].addTo(wanted)
				l.cut += l.words()
			}
		}
		for i := range found {
			found[i] &= wanted[i]
		}
	}
	for number, set := range l.crowded {
		l.cut += l.words()
		if sel.Matches(set) {
			found.add(number)
		} else {
			found.remove(number)
		}
	}
	return found
}

// termsOf yields the terms that a requirement asks for, or rules out: one of them is enough.
func termsOf(r *labels.Requirement) func(yield func(term) bool) {
	return func(yield func(term) bool) {
		key := unique.Make(r.Key())
		if op := r.Operator(); op == selection.Exists || op == selection.DoesNotExist {
			yield(term{key, anyValue})
			return
		}
		for _, v := range r.ValuesUnsorted() {
			if !yield(term{key, v}) {
				return
			}
		}
	}
}

// count is how many things have one of the terms of a requirement, or somewhat more; less than zero if it has too many
// terms.
func (l *labelled[T]) count(r *labels.Requirement) int {
	n, terms := len(l.crowded), 0
	for t := range termsOf(r) {
		if terms++; terms > maxTerms {
			return -1
		}
		if id, known := l.ids[t]; known {
			n += l.entries[id].len()
		}
	}
	return n
}

// requires says whether nothing matches that has none of a requirement's terms.
func requires(r *labels.Requirement) bool {
	return slices.Contains([]selection.Operator{selection.In, selection.Equals, selection.DoubleEquals,
		selection.Exists}, r.Operator())
}
