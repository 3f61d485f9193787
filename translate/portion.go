// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/netpold/netpold/nft"
)

// Complete finishes the work left by events, and returns the table that the state implies. The state keeps the table
// and changes it with the next events.
func (s *State) Complete() *nft.Table {
	s.complete(math.MaxInt)
	for s.stepGuard() { //nolint:revive // each call is a step
	}
	return s.table
}

// Portion completes the table until a budget of element edits is used up, and returns it and whether there is more to
// do. So events in between wait for at most one portion, not for everything that another namespace's event changed.
// What remains are isolations of the namespaces with most to do: what is in force for their pods stays in force, and a
// pod without an isolation has one from the first portion on, which allows nothing until it is complete. A table that
// must be replaced is completed at once.
func (s *State) Portion(budget int) (table *nft.Table, more bool) {
	if !s.table.Known() {
		return s.Complete(), false
	}
	s.complete(budget)
	more = s.stepGuard()
	return s.table, more || s.unfinished() || len(s.staleLists) > 0 || s.claimsChanged
}

// complete completes the table, or the first part of it if the budget does not suffice.
func (s *State) complete(budget int) {
	s.overtake()
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
		for orphan := range s.orphans { // last, so that what others also need is not rebuilt
			if len(orphan.own().users) == 0 {
				orphan.discard(s)
			}
		}
		clear(s.orphans)
		s.rebudget()
	}
	for id := range s.dirtyIdentities { // the remaining ones
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

// overtake completes what has other peers since policies or pods changed: the policies of before and the peers of now
// could allow together what was never allowed.
func (s *State) overtake() {
	for iso := range s.grown {
		if !s.unfinished() {
			break
		}
		s.findDirty(iso.users)
		if len(iso.users) > 0 {
			s.rebuild(iso)
		}
	}
	for l := range s.moved {
		if !s.unfinished() {
			break
		}
		s.findDirty(l.users)
	}
	clear(s.grown)
	clear(s.moved)
}

// rebuild builds an isolation if its policies have changed. Those of before may never have been those of a pod that
// comes to it now, nor are those of now those of a pod that is to leave it.
func (s *State) rebuild(iso *isolation) {
	if _, dirty := s.dirtyIsolations[iso]; dirty && iso.built {
		s.findDirty(iso.users)
	}
	if _, dirty := s.dirtyIsolations[iso]; dirty || !iso.built {
		iso.build(s)
	}
}

// findDirty finds the isolations and lists of those identities for which they may have changed.
func (s *State) findDirty(ids map[*identity]struct{}) {
	for id := range ids {
		if s.dirty(id) {
			task{identity: id}.do(s)
		}
	}
}

// unfinished says whether there are tasks.
func (s *State) unfinished() bool {
	return len(s.dirtyIdentities)+len(s.dirtyIsolations)+len(s.relisted) > 0
}

// dirty says whether an identity's isolations or lists may have changed.
func (s *State) dirty(id *identity) bool {
	_, isolated := s.dirtyIdentities[id]
	_, listed := s.relisted[id]
	return isolated || listed
}

// edits is roughly how many elements were edited so far.
func (s *State) edits() int { return s.place.Edits + s.openings.Edits + s.parts.Edits + s.index.Edits }

// task is to find the isolations of an identity, or to build a changed one.
type task struct {
	namespace string
	of        int  // tasks of the namespace
	others    bool // only ClusterNetworkPolicies have changed
	identity  *identity
	isolation *isolation
}

func (t task) do(s *State) {
	_, dirty := s.dirtyIsolations[t.isolation]
	switch {
	case t.identity != nil:
		delete(s.dirtyIdentities, t.identity)
		delete(s.relisted, t.identity)
		s.isolate(t.identity)
	case !dirty: // it was built for an identity
	case len(t.isolation.users) > 0:
		t.isolation.build(s)
	default: // not used any more
		delete(s.dirtyIsolations, t.isolation)
	}
}

// tasks returns what is to be done, namespaces with the least first, and last those in which only
// ClusterNetworkPolicies have changed, so that tenants do not wait for them. Within a namespace, isolations come last:
// some may have no pods by then.
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
	slices.SortFunc(all, func(a, b task) int {
		return cmp.Or(last(a.others, b.others), cmp.Compare(a.of, b.of), cmp.Compare(a.namespace, b.namespace),
			last(a.isolation != nil, b.isolation != nil))
	})
	return all
}

// last orders what is true after what is not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
