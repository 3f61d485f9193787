// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"maps"
	"math"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/spec"
)

// askers are selectors by a term that they require, so that a new identity is held against those alone that may match
// it. A tenant can have any number of selectors; what they cost others is the matter of what others have.
type askers[I, S any] struct {
	by     map[term]some[*Selector[I, S]]
	always map[*Selector[I, S]]struct{} // that require nothing, but rule out labels: there are few that match nobody
}

// some is a set, in the form that takes least memory: most often it has one.
type some[K comparable] struct {
	one  K
	more map[K]struct{} // nil: one
}

// set adds a selector that requires one of the terms of a requirement; nil: none.
func (a *askers[I, S]) set(sel *Selector[I, S], r *labels.Requirement) {
	if r == nil {
		if a.always == nil {
			a.always = make(map[*Selector[I, S]]struct{})
		}
		a.always[sel] = struct{}{}
		return
	}
	if a.by == nil {
		a.by = make(map[term]some[*Selector[I, S]])
	}
	for t := range termsOf(r) {
		have, known := a.by[t]
		switch {
		case !known:
			have.one = sel
		case have.more == nil:
			have = some[*Selector[I, S]]{more: map[*Selector[I, S]]struct{}{have.one: {}, sel: {}}}
		default:
			have.more[sel] = struct{}{}
		}
		a.by[t] = have
	}
}

// unset undoes set.
func (a *askers[I, S]) unset(sel *Selector[I, S], r *labels.Requirement) {
	if r == nil {
		delete(a.always, sel)
		return
	}
	for t := range termsOf(r) {
		have := a.by[t]
		delete(have.more, sel)
		if have.one == sel || have.more != nil && len(have.more) == 0 {
			delete(a.by, t)
		}
	}
}

// ask holds those that may match what has labels, or whose namespace has, against an identity.
func (a *askers[I, S]) ask(entries []entry, labels []uint32, hold func(*Selector[I, S])) {
	for sel := range a.always {
		hold(sel)
	}
	if len(a.by) == 0 {
		return
	}
	for _, l := range labels {
		for _, t := range []term{entries[l].term, {entries[l].key, anyValue}} {
			have := a.by[t]
			if have.one != nil {
				hold(have.one)
			}
			for sel := range have.more {
				hold(sel)
			}
		}
	}
}

// introduce holds a new identity against the selectors that may match it.
func (x *Index[I, S]) introduce(id *Identity[I, S]) {
	hold := func(sel *Selector[I, S]) { x.match(sel, id) }
	ns := id.Namespace
	if id.packed() != nil || len(ns.Labels) > maxTerms {
		for _, sel := range x.selectors {
			hold(sel)
		}
		return
	}
	ns.byPod.ask(x.identities.entries, id.labels, hold)
	x.byPod.ask(x.identities.entries, id.labels, hold)
	if ns.Known {
		x.byNamespace.ask(x.known.entries, ns.labels, hold)
	}
}

// enlist puts a new selector among the askers, by the requirement that the fewest fulfil now.
func (x *Index[I, S]) enlist(sel *Selector[I, S]) {
	sel.askers = &x.byPod
	if sel.Namespace != "" {
		sel.askers = &x.namespaceOf(sel.Namespace).byPod
	}
	best := math.MaxInt
	choose := func(a *askers[I, S], from labels.Selector, count func(*labels.Requirement) int) {
		requirements, _ := from.Requirements()
		for i := range requirements {
			if r := &requirements[i]; requires(r) {
				if n := count(r); n >= 0 && n < best {
					best, sel.askers, sel.requires = n, a, r
				}
			}
		}
	}
	choose(sel.askers, sel.Pods, x.identities.count)
	if sel.Namespaces != nil {
		each := len(x.identities.things)/max(1, len(x.known.things)) + 1
		choose(&x.byNamespace, sel.Namespaces, func(r *labels.Requirement) int { return each * x.known.count(r) })
	}
	sel.askers.set(sel, sel.requires)
}

// find returns the identities that may be of a peer, by what is known now; of one namespace, unless that is nil.
func (x *Index[I, S]) find(p spec.Peer, of *Namespace[I, S]) []*Identity[I, S] {
	cut := x.identities.cut + x.known.cut
	found := x.identities.find(p.Pods)
	spaces, are := x.scope(p, of)
	var all []*Identity[I, S]
	looks := 0
	take := func(id *Identity[I, S]) {
		if looks++; !id.Idle && found.has(id.number) && are(id.Namespace) {
			all = append(all, id)
		}
	}
	there := 0
	for ns := range spaces {
		there += len(ns.Identities)
	}
	if there <= found.len() {
		for ns := range spaces {
			for _, id := range ns.Identities {
				take(id)
			}
		}
	} else {
		for n := range found.all {
			take(x.identities.things[n])
		}
	}
	x.Edits += (x.identities.cut+x.known.cut-cut)/wordsAnEdit + looks/looksAnEdit + len(all)/matchesAnEdit
	return all
}

// scope yields the namespaces that a peer's pods may be in, and says of each whether it is one; of one namespace, only
// that.
func (x *Index[I, S]) scope(p spec.Peer, of *Namespace[I, S]) (iter.Seq[*Namespace[I, S]],
	func(*Namespace[I, S]) bool) {
	if p.Namespace != "" {
		of = x.namespaces[p.Namespace]
	}
	switch {
	case of != nil || p.Namespace != "":
		one := func(yield func(*Namespace[I, S]) bool) { _ = of != nil && yield(of) }
		return one, func(ns *Namespace[I, S]) bool { return ns == of }
	case p.Namespaces == nil:
		return maps.Values(x.namespaces), func(*Namespace[I, S]) bool { return true }
	}
	found := x.known.find(p.Namespaces)
	several := func(yield func(*Namespace[I, S]) bool) {
		for n := range found.all {
			if !yield(x.known.things[n]) {
				return
			}
		}
	}
	return several, func(ns *Namespace[I, S]) bool { return ns.Known && found.has(ns.number) }
}

// How many words of sets are cut, and how many identities looked at, in the time that it takes to edit an element.
const wordsAnEdit, looksAnEdit = 1024, 64
