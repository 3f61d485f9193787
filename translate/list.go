// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// list is one distinct list of a tier's ClusterNetworkPolicies for pods of this node in a direction, which share it.
// Another text of a policy makes another list.
type list struct {
	owner
	tier.Place
	placed *tier.Placed      // nil for a stand-in
	order  []*selector       // the peers, in the order of the text
	index  map[*selector]int // of order

	rulesOf [][]int                    // the rules with each peer of order
	wide    []int                      // indexes in order that were wide when it was placed
	held    map[*chain.Shared]struct{} // the sets that its form needs
}

// list gives a local identity its lists in a direction, and takes them from one that is no longer local. It says
// whether any changed.
func (s *State) list(id *identity, d policy.Direction) bool {
	changed := false
	asked := s.asked(id, d)
	for _, t := range frame.AllTiers() {
		var next *list
		if asked[t] {
			next = s.listOf(id, tier.Place{Tier: t, Direction: d})
		}
		old := id.Own.local.lists[d][t]
		if old == next {
			continue
		}
		changed = true
		if next != nil {
			next.users[id] = struct{}{}
		}
		id.Own.local.lists[d][t] = next
		if old != nil {
			s.leave(id, old)
		}
	}
	return changed
}

// listOf returns the list of a local identity at a place, or nil if no rule there applies to it.
func (s *State) listOf(id *identity, at tier.Place) *list {
	policies := s.clusterPolicies.Asked(at.Tier, at.Direction, id.In)
	if len(policies) == 0 {
		return nil
	}
	written := at.Read(policies, id.Ports, s.clusterPolicies.Nodes())
	key, hash := aside.ListKey(written.Key), written.Key
	q := s.quarantines.At(key)
	if q != nil {
		key, hash = aside.StandInKey(key), nft.Hash(aside.StandInKey(hash))
	}
	if l := s.lists[key]; l != nil {
		return l
	}
	l := &list{Place: at, owner: owner{
		key: key, name: at.Tier.Prefix(at.Direction) + "list-" + hash, policies: written.Policies,
		kind:  frame.Kind{Direction: at.Direction, Audit: at.Tier.Audit()},
		users: make(map[*identity]struct{}), quarantine: q,
	}}
	s.lists[key] = l
	if q != nil {
		l.standIn(s)
	} else {
		l.make(s, written.Rules())
	}
	return l
}

// aside returns why everything is denied to the pods with list l, which may be nil; nil if it is not.
func (l *list) aside() *aside.Record {
	switch {
	case l == nil:
		return nil
	case l.quarantine == nil && l.placed.Form() == tier.Refused:
		return &aside.Record{Quarantine: aside.Quarantine{Reason: "the rules of tier " + l.Tier.String() +
			" are too many, even checked one after the other"}}
	}
	return l.quarantine
}

// Sequential returns the policies of each list of a tier whose rules are checked one after the other, because their
// classes would be too large.
func (s *State) Sequential() [][]types.NamespacedName {
	var all [][]types.NamespacedName
	for _, l := range s.lists {
		if l.placed != nil && l.placed.Form() == tier.Sequential {
			all = append(all, l.policies)
		}
	}
	return all
}

// standIn makes the chain of a stand-in, which denies everything, or for an auditing list nothing.
func (l *list) standIn(s *State) {
	s.troubleVersion++
	if l.unaudited() {
		return // it is left out
	}
	s.useTier(l.Place, 1)
	s.table.SetChain(&nft.Chain{Name: l.name, Rules: s.frame.TierRefuse(l.Tier, l.Direction),
		Comment: l.Tier.String() + ": quarantined, everything is denied"})
}

// useTier adds a user (by 1, or -1) of what the frame has for lists at a place.
func (s *State) useTier(at tier.Place, by int) {
	if s.frame.UseTier(at.Tier, at.Direction, by) {
		s.retail()
	}
}

// make makes the list of some rules.
func (l *list) make(s *State, rules []tier.Rule) {
	l.index = make(map[*selector]int)
	s.useTier(l.Place, 1)
	for i, r := range rules {
		for _, peer := range r.Peers {
			sel := s.selectorOf(peer)
			n, known := l.index[sel]
			if !known {
				n = len(l.order)
				l.index[sel], l.order = n, append(l.order, sel)
				l.rulesOf = append(l.rulesOf, nil)
				if sel.Own.lists == nil {
					sel.Own.lists = make(map[*list]struct{})
				}
				sel.Own.lists[l] = struct{}{}
			}
			if rules := &l.rulesOf[n]; len(*rules) == 0 || (*rules)[len(*rules)-1] != i {
				*rules = append(*rules, i)
			}
		}
	}
	deny := tier.Verdicts{Tail: s.frame.TierTail, Refuse: s.frame.TierRefuse(l.Tier, l.Direction)}
	selectors := l.selectors(s)
	l.wide = selectors.Wide
	l.place(s, tier.New(l.Place, rules, deny, s.options.TierBounds.OrDefault()).PutInto(s.parts, l.name, selectors))
}

// place puts the list into the table as p, replacing its old form.
func (l *list) place(s *State, p *tier.Placed) {
	old := l.placed
	l.placed = p
	for _, sel := range l.order {
		for id := range sel.Matches {
			delete(id.Own.groups, l)
		}
	}
	for _, sel := range l.order {
		s.place.Edits += len(sel.Matches) / 4
		for id := range sel.Matches {
			l.put(s, id)
		}
	}
	l.form(s)
	if old != nil {
		old.Replaced()
	}
}

// maxWide is how many selectors a list looks up in shared sets.
const maxWide = 4

// selectors returns what package tier needs to know about the selectors. Wide are the first that is likely to match
// most pods of any cluster, and those that really are, in an order that does not depend on how many pods they match.
func (l *list) selectors(s *State) tier.Selectors {
	var wide []*selector
	for _, sel := range l.order {
		if sel.Broad() && (len(wide) == 0 || bySelector(sel, wide[0]) < 0) {
			wide = []*selector{sel}
		}
	}
	base := len(wide)
	for _, sel := range l.order {
		if s.wide(sel) && !slices.Contains(wide, sel) {
			wide = append(wide, sel)
		}
	}
	slices.SortFunc(wide[base:], bySelector)
	out := tier.Selectors{RulesOf: l.rulesOf, Always: base}
	for _, sel := range wide[:min(len(wide), maxWide)] {
		out.Wide = append(out.Wide, l.index[sel])
	}
	return out
}

// reform gives the list the form that it should have. A stand-in has only one.
func (l *list) reform(s *State) {
	delete(s.staleLists, l)
	if l.placed == nil {
		return
	}
	if selectors := l.selectors(s); !slices.Equal(selectors.Wide, l.wide) {
		l.wide = selectors.Wide
		if next := l.placed.PutInto(s.parts, l.name, selectors); !slices.Equal(next.Wide, l.placed.Wide) {
			l.place(s, next)
			return
		}
	}
	if l.placed.Stale() {
		l.form(s)
	}
}

// lacks says whether the list lacks elements, which cannot wait.
func (l *list) lacks() bool { return l.placed != nil && l.placed.Lacks() }

// form is [tier.Placed.Reform].
func (l *list) form(s *State) {
	s.troubleVersion++
	of := func(n tier.Need) *chain.Shared {
		ports := make([]policy.NamedPort, len(n.Names))
		for i, name := range n.Names {
			ports[i].Name = name
		}
		return s.shared(l.order[n.Selector], ports...)
	}
	old := l.held
	l.held = make(map[*chain.Shared]struct{})
	for _, n := range l.placed.Needs(l.placed.Due()) {
		l.held[of(n)] = struct{}{}
	}
	for sh := range l.held {
		sh.Hold(1) // even for a family without addresses, and if no rule looks it up
	}
	l.placed.Reform(func(n tier.Need, f nft.Family) *nft.Set { return of(n).Set(f) }, l.pods(s))
	for sh := range old {
		sh.Hold(-1)
	}
}

// pods yields the addresses of all pods in groups of the list.
func (l *list) pods(s *State) iter.Seq2[netip.Addr, *tier.Group] {
	return func(yield func(netip.Addr, *tier.Group) bool) {
		seen := make(map[*identity]struct{})
		for _, sel := range l.order {
			for id := range sel.Matches {
				g := id.Own.groups[l]
				if _, again := seen[id]; again || g == nil {
					continue
				}
				seen[id] = struct{}{}
				for a := range s.index.Addresses(id) {
					if !yield(a, g) {
						return
					}
				}
			}
		}
	}
}

// put updates the group of an identity's addresses in the list.
func (l *list) put(s *State, id *identity) {
	var selectors []int
	for _, sel := range id.Selectors {
		if i, ok := l.index[sel]; ok {
			selectors = append(selectors, i)
		}
	}
	slices.Sort(selectors)
	old, next := id.Own.groups[l], l.placed.Group(selectors, id.Ports)
	defer l.placed.Leave(old)
	if old == next {
		return
	}
	for a := range s.index.Addresses(id) {
		l.move(s, a, old, next)
	}
	if next == nil {
		delete(id.Own.groups, l)
		return
	}
	if id.Own.groups == nil {
		id.Own.groups = make(map[*list]*tier.Group)
	}
	id.Own.groups[l] = next
}

// move is [tier.Placed.Move].
func (l *list) move(s *State, a netip.Addr, from, to *tier.Group) {
	if l.placed.Move(a, from, to); l.placed.Stale() {
		s.staleLists[l] = struct{}{}
	}
}

// discard removes the list, which no pod has any more, and everything that only it needs.
func (l *list) discard(s *State) {
	for _, sel := range l.order {
		for id := range sel.Matches {
			delete(id.Own.groups, l)
		}
		delete(sel.Own.lists, l)
	}
	if l.placed != nil {
		l.placed.Remove()
	}
	for sh := range l.held {
		sh.Hold(-1)
	}
	for _, sel := range l.order {
		s.dropSelector(sel)
	}
	delete(s.staleLists, l)
	s.table.DeleteChain(l.name)
	delete(s.lists, l.key)
	s.troubleVersion++
	if !l.unaudited() {
		s.useTier(l.Place, -1)
	}
}

// retail marks the chains of all egress isolations to be rendered again.
func (s *State) retail() {
	for _, iso := range s.isolations {
		if iso.kind == (frame.Kind{Direction: policy.Egress}) {
			s.dirtyChains[iso] = struct{}{}
		}
	}
}
