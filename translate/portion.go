// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/netpold/netpold/nft"
)

// Complete does what is left to do of the events, and returns the table that the state implies. It stays the state's:
// it changes with the next events.
func (s *State) Complete() *nft.Table {
	s.complete(math.MaxInt)
	for s.regard() { //nolint:revive // each call is a step
	}
	return s.table
}

// Portion completes the table until some budget of elements has been edited, and returns it and whether more is to be
// done: by that, events that come in between wait for a portion at most, and not for all that an event of another
// namespace has changed. What remains are isolations of the namespaces that have most to do; what is in force for their
// pods stays in force, and a pod that has no isolation has one from the first portion on, which allows nothing before
// it is complete. A table that is to be replaced is completed at once.
func (s *State) Portion(budget int) (table *nft.Table, more bool) {
	if !s.table.Known() {
		return s.Complete(), false
	}
	s.complete(budget)
	more = s.regard()
	return s.table, more || s.unfinished() || len(s.staleLists) > 0 || s.reckon
}

// complete completes the table, or what comes first of it if the budget does not last.
func (s *State) complete(budget int) {
	end := s.edits() + budget
	if end < s.edits() {
		end = math.MaxInt
	}
	for more := true; more && s.edits() < end; more = s.unfinished() {
		for _, t := range s.tasks() {
			if s.edits() >= end {
				break
			}
			t.do(s)
		}
		for iso := range s.orphans { // last, so that what others need as well is not made anew
			if len(iso.users) == 0 {
				iso.discard(s)
			}
		}
		clear(s.orphans)
		for l := range s.listOrphans {
			if len(l.users) == 0 {
				l.discard(s)
			}
		}
		clear(s.listOrphans)
		s.rebudget()
	}
	for id := range s.dirtyIdentities { // that remain
		s.enclose(id)
	}
	for l := range s.staleLists {
		if s.edits() < end || l.lacks() {
			l.reform(s)
		}
	}
	for iso := range s.dirtyChains {
		iso.render(s)
	}
	clear(s.dirtyChains)
}

// unfinished says whether there are tasks.
func (s *State) unfinished() bool {
	return len(s.dirtyIdentities)+len(s.dirtyIsolations)+len(s.relisted) > 0
}

// dirty says whether an identity may have other isolations or lists.
func (s *State) dirty(id *identity) bool {
	_, isolated := s.dirtyIdentities[id]
	_, listed := s.relisted[id]
	return isolated || listed
}

// edits is how many elements were edited so far, about.
func (s *State) edits() int { return s.place.Edits + s.openings.Edits + s.parts.Edits + s.index.Edits }

// task is to find the isolations of an identity, or to build one that has changed.
type task struct {
	namespace string
	of        int  // tasks of the namespace
	others    bool // nothing has changed but ClusterNetworkPolicies
	identity  *identity
	isolation *isolation
}

func (t task) do(s *State) {
	switch {
	case t.identity != nil:
		delete(s.dirtyIdentities, t.identity)
		delete(s.relisted, t.identity)
		s.isolate(t.identity)
	case len(t.isolation.users) > 0:
		t.isolation.build(s)
	default: // nobody's any more
		delete(s.dirtyIsolations, t.isolation)
	}
}

// tasks returns what is to be done, of the namespaces with the least first, and last of those in which only
// ClusterNetworkPolicies have changed: tenants do not wait for those. The isolations of a namespace come last in it:
// some may have no pods any more by then.
func (s *State) tasks() []task {
	if !s.unfinished() {
		return nil
	}
	var all []task
	count := make(map[string]int)
	add := func(t task) {
		count[t.namespace]++
		all = append(all, t)
	}
	for id := range s.dirtyIdentities {
		add(task{namespace: id.Namespace.Name, identity: id})
	}
	for iso := range s.dirtyIsolations {
		add(task{namespace: iso.policies[0].Namespace, isolation: iso})
	}
	own := count
	if len(s.relisted) > 0 {
		own = maps.Clone(count)
	}
	for id := range s.relisted {
		if _, twice := s.dirtyIdentities[id]; !twice {
			add(task{namespace: id.Namespace.Name, identity: id})
		}
	}
	for i, t := range all {
		all[i].of, all[i].others = count[t.namespace], own[t.namespace] == 0
	}
	last := func(put bool) int {
		if put {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b task) int {
		return cmp.Or(cmp.Compare(last(a.others), last(b.others)), cmp.Compare(a.of, b.of),
			cmp.Compare(a.namespace, b.namespace), cmp.Compare(last(a.isolation != nil), last(b.isolation != nil)))
	})
	return all
}
