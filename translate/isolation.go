// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// isolation is one distinct set of policies, with the numbers that their named ports have in the isolated pods, that
// isolates pods of this node in one direction, or only audits that. It is one chain, which pods with equal isolations
// share, and the sets that the chain looks up.
type isolation struct {
	owner
	numbers map[policy.NamedPort]nft.Ports
	built   bool // if not, it allows nothing yet
	placed  chain.Isolation

	allows        // what the policies allow
	demand demand // what they demand
	short  int    // how many elements less it may have, since its namespace is over the limit
}

// enclose gives a local identity an isolation in each direction where it has none, built or not: an unbuilt one allows
// nothing. The lists of a direction are found at once if its pods are new, or isolated only now; otherwise the old
// lists stay: an older isolation beside newer lists could allow what neither the older nor the newer policies do.
func (s *State) enclose(id *identity) {
	changed := false
	for _, d := range policy.Directions() {
		if len(id.Local) == 0 || id.Own.local.isolations[d] != nil {
			continue
		}
		given := false
		if enforced, _ := s.selecting(id, d); len(enforced) > 0 { // audited policies can wait
			next := s.isolationBy(id, frame.Kind{Direction: d}, enforced)
			given = s.assign(id, d, next, id.Own.local.shadows[d])
		}
		if given || !id.Own.local.settled {
			changed = s.list(id, d) || given || changed
		}
	}
	if changed {
		s.redispatch(id)
	}
}

// isolate gives a local identity its isolations, and takes them from one that is no longer local.
func (s *State) isolate(id *identity) {
	if len(id.Local) == 0 {
		if id.Own.local != nil {
			s.vacate(id)
		}
		return
	}
	changed := false
	for _, d := range policy.Directions() {
		next, shadow := s.isolationsOf(id, d)
		for _, iso := range []*isolation{next, shadow} {
			if iso != nil {
				s.rebuild(iso)
			}
		}
		changed = s.assign(id, d, next, shadow) || changed
		changed = s.list(id, d) || changed
	}
	id.Own.local.settled = true
	if changed {
		s.redispatch(id)
	}
}

// vacate takes the isolations and lists from an identity without local pods.
func (s *State) vacate(id *identity) {
	for _, d := range policy.Directions() {
		s.assign(id, d, nil, nil)
		for _, l := range id.Own.local.lists[d] {
			if l != nil {
				s.leave(id, l)
			}
		}
	}
	id.Own.local = nil
}

// assign gives id an isolation and a shadow, or nil, in a direction, and says whether either changed.
func (s *State) assign(id *identity, d policy.Direction, next, shadow *isolation) bool {
	old, now := []*isolation{id.Own.local.isolations[d], id.Own.local.shadows[d]}, []*isolation{next, shadow}
	if slices.Equal(old, now) {
		return false
	}
	id.Own.local.isolations[d], id.Own.local.shadows[d] = next, shadow
	for _, iso := range now {
		if iso == nil {
			continue
		}
		iso.users[id] = struct{}{}
		if !iso.built {
			s.dirtyChains[iso] = struct{}{}
		}
	}
	for _, iso := range old {
		if iso != nil && !slices.Contains(now, iso) {
			s.leave(id, iso)
		}
	}
	return true
}

// redispatch sends the traffic of id's local pods to its isolations.
func (s *State) redispatch(id *identity) {
	for a, p := range id.Local {
		s.setDispatch(a, p)
	}
}

// isolationBy returns the isolation of a kind, by some policies, for the pods of id.
func (s *State) isolationBy(id *identity, k frame.Kind, policies []types.NamespacedName) *isolation {
	numbers := s.policies.Numbers(k.Direction, policies, id.Ports)
	key := chain.Key(k, policies, numbers)
	q := s.quarantines.At(key)
	if q != nil {
		key = aside.StandInKey(key)
	}
	if iso := s.isolations[key]; iso != nil {
		return iso
	}
	iso := &isolation{
		owner: owner{
			key: key, kind: k, policies: policies, users: make(map[*identity]struct{}), quarantine: q,
		},
		numbers: numbers, placed: chain.New(s.place, k, nft.Hash(key), policies),
	}
	iso.name = iso.placed.Chain
	if k.Audit && q == nil {
		s.frame.UseAudit(k.Direction, 1)
	}
	s.isolations[key], s.chains[iso.name] = iso, iso
	s.noteQuarantined(iso)
	s.dirtyIsolations[iso] = struct{}{}
	return iso
}

// build updates what the isolation allows from its policies.
func (iso *isolation) build(s *State) {
	iso.built = true
	delete(s.dirtyIsolations, iso)
	for _, name := range iso.policies {
		if s.joined[name] == nil {
			s.joined[name] = make(map[*isolation]struct{})
		}
		s.joined[name][iso] = struct{}{}
	}
	s.foresee(iso)
	iso.replace(s, s.contentOf(iso))
}

// discard removes the isolation, which no pod has any more, and everything that only it needs.
func (iso *isolation) discard(s *State) {
	for _, name := range iso.policies {
		delete(s.joined[name], iso)
		if p := s.policies.Get(name); p != nil && len(s.joined[name]) == 0 {
			delete(s.joined, name)
			p.Shrink()
		}
	}
	iso.replace(s, allows{})
	s.setDemand(iso, demand{})
	delete(s.isolations, iso.key)
	s.noteQuarantined(iso)
	delete(s.chains, iso.name)
	delete(s.dirtyIsolations, iso)
	delete(s.dirtyChains, iso)
	iso.placed.Remove()
	if iso.kind.Audit && !iso.unaudited() {
		s.frame.UseAudit(iso.kind.Direction, -1)
	}
}

// replace replaces the isolation's content, acquiring what is new before releasing what is no longer needed.
func (iso *isolation) replace(s *State, next allows) {
	old := iso.allows
	iso.allows = next
	for sel := range next.Copied {
		sel.Own.copiedBy[iso] = struct{}{}
	}
	for sel, a := range next.LookedUp {
		s.lookUp(iso, sel, a, 1)
	}
	for p := range next.Large() {
		s.openings.Acquire(opening.Of(iso.kind, p))
	}
	for p := range old.Large() {
		s.openings.Release(opening.Of(iso.kind, p))
	}
	iso.placed.PutBlocks(next.Blocks)
	iso.Blocks = nil                      // there may be many, and nothing else needs them
	peers := make(map[*identity]struct{}) // whose grant may change
	for sel, a := range old.Copied {
		if !a.Equal(next.Copied[sel]) {
			maps.Copy(peers, sel.Matches)
		}
	}
	for sel, a := range next.Copied {
		if !a.Equal(old.Copied[sel]) {
			maps.Copy(peers, sel.Matches)
		}
	}
	for id := range peers {
		iso.grant(s, id)
	}
	for sel := range old.Copied {
		if _, still := next.Copied[sel]; !still {
			delete(sel.Own.copiedBy, iso)
			s.dropSelector(sel)
		}
	}
	for sel, a := range old.LookedUp {
		s.lookUp(iso, sel, a, -1)
	}
	s.dirtyChains[iso] = struct{}{}
}

// grant updates what the isolation opens to an identity, and the elements of its addresses.
func (iso *isolation) grant(s *State, id *identity) {
	ports := iso.OpenTo(id.Selectors, id.Ports, func(sel *selector) bool {
		_, matches := sel.Matches[id]
		return matches
	})
	old := id.Own.grants[iso]
	if old == nil && ports.Empty() || old != nil && old.Ports.Key() == ports.Key() {
		return
	}
	var next *chain.Grant
	if !ports.Empty() {
		next = iso.placed.Acquire(ports)
	}
	if old != nil {
		for a := range s.index.Addresses(id) {
			iso.placed.Unwant(a, old)
		}
		iso.release(id, old)
	}
	if next != nil {
		if id.Own.grants == nil {
			id.Own.grants = make(map[*isolation]*chain.Grant)
		}
		id.Own.grants[iso] = next
		for a, p := range s.index.Addresses(id) {
			iso.placed.Want(a, p.Text, next)
		}
	}
}

// release takes g from id.
func (iso *isolation) release(id *identity, g *chain.Grant) {
	delete(id.Own.grants, iso)
	iso.placed.Release(g)
}

// render makes the chain of the isolation.
func (iso *isolation) render(s *State) {
	if iso.unaudited() {
		return // nothing leads to it
	}
	b := chain.Body{Any: iso.Any, Tail: s.frame.Tail(iso.kind, iso.name)}
	for _, sel := range slices.SortedFunc(maps.Keys(iso.LookedUp), bySelector) {
		a := iso.LookedUp[sel]
		for ports := range a.Shared() {
			opens := a.Open
			if len(ports) > 0 { // the set has the numbers
				opens = spec.Ports{Every: true}
			}
			for _, f := range nft.Families() {
				if set := sel.Own.shared[chain.SharedKey(ports)].Find(f); set != nil {
					b.Lookups = append(b.Lookups, chain.Lookup{Set: set, Ports: opens})
				}
			}
		}
	}
	iso.placed.Render(b)
}
