// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
	"github.com/netpold/netpold/translate/tier"
)

// list is what one distinct list of ClusterNetworkPolicies of a tier says of pods of this node in a direction, which
// share it. Another text of a policy is another list.
type list struct {
	tier.Place
	key, name string                 // the name is the chain's
	policies  []types.NamespacedName // with a name only
	users     map[*identity]struct{}

	quarantine *quarantine // of the list that this one, which denies everything, stands in for

	placed *tier.Placed      // nil: it stands in
	order  []*selector       // that are peers, as they are written
	index  map[*selector]int // in order
	base   *selector         // of order; nil: there is none
}

// list gives a local identity its lists, and takes them from one that has ceased to be local. It says whether one is
// another than before.
func (s *State) list(id *identity) bool {
	changed := false
	for _, d := range policy.Directions() {
		for _, t := range frame.Tiers() {
			var next *list
			iso := id.Own.isolations[d]
			if len(id.Local) > 0 && (t == frame.Admin || iso == nil || iso.kind.Audit) {
				next = s.listOf(id, tier.Place{Tier: t, Direction: d})
			}
			old := id.Own.lists[d][t]
			if old == next {
				continue
			}
			changed = true
			if next != nil {
				next.users[id] = struct{}{}
			}
			id.Own.lists[d][t] = next
			s.leaveList(id, old)
		}
	}
	return changed
}

// leaveList takes id out of the users of l, which may be nil.
func (s *State) leaveList(id *identity, l *list) {
	if l == nil {
		return
	}
	delete(l.users, id)
	if len(l.users) == 0 {
		s.listOrphans[l] = struct{}{}
	}
}

// mostOfList is how many elements the networks and ports of a list may take. Each set of rules that an address can be
// in has a map of its ports: ten policies, legal one by one, take millions, and gigabytes while they are made.
const mostOfList = 200_000

// listOf returns the list of a local identity at a place, or nil if no rule there is for it.
func (s *State) listOf(id *identity, at tier.Place) *list {
	var policies []*clusterPolicy
	for _, p := range s.clusterPolicies {
		if p.tier() == at.Tier && len(p.compiled.Rules[at.Direction]) > 0 && p.selects(id) {
			policies = append(policies, p)
		}
	}
	if len(policies) == 0 {
		return nil
	}
	slices.SortFunc(policies, func(a, b *clusterPolicy) int {
		return cmp.Or(cmp.Compare(a.compiled.Priority, b.compiled.Priority), cmp.Compare(a.Name, b.Name))
	})
	resolved := make(map[*spec.ClusterRule]spec.ClusterRule) // where they are not as they are written
	fields := []string{at.Tier.Prefix(at.Direction)}
	for _, p := range policies {
		fields = append(fields, p.Name, p.hash)
		for i := range p.compiled.Rules[at.Direction] {
			written := &p.compiled.Rules[at.Direction][i]
			if r, found := s.resolveRule(*written, id, at.Direction); found != nil {
				resolved[written] = r
				fields = append(fields, found...)
			}
		}
	}
	key := nft.Hash(fields...)
	names := make([]types.NamespacedName, len(policies))
	for i, p := range policies {
		names[i].Name = p.Name
	}
	if q := s.standIn(listKey(key)); q != nil {
		return s.standInList(key, at, names)
	}
	l := s.lists[key]
	if l != nil {
		return l
	}
	var rules []tier.Rule
	for _, p := range policies {
		for i := range p.compiled.Rules[at.Direction] {
			written := &p.compiled.Rules[at.Direction][i]
			r, found := resolved[written]
			if !found {
				r = *written
			}
			rules = append(rules, tier.Rule{ClusterRule: r, Policy: p.Name})
		}
	}
	compiled := tier.New(at, rules, s.frame.TierTail)
	if compiled.Exceeds(mostOfList) {
		s.quarantines[listKey(key)] = &quarantine{
			Quarantine: Quarantine{Key: listKey(key), Reason: fmt.Sprintf(
				"the networks and ports of tier %s together take more than %d elements", at.Tier, mostOfList)},
			kind: frame.Kind{Direction: at.Direction}, policies: names,
		}
		return s.standInList(key, at, names)
	}
	l = s.newList(key, compiled, rules)
	l.policies = names
	return l
}

// listKey is the key of the quarantine of a list.
func listKey(key string) string { return "list\n" + key }

// listAside returns the list of the key of a quarantine, or nil.
func (s *State) listAside(key string) *list {
	name, ok := strings.CutPrefix(key, "list\n")
	if !ok {
		return nil
	}
	return s.lists[name]
}

// listAt returns a list that decides, in a direction, about the pod of this node that has an address, or nil.
func (s *State) listAt(d policy.Direction, a netip.Addr) *list {
	if p := s.index.Owner(a); p != nil && s.index.IsLocal(p) {
		lists := p.Identity.Own.lists[d]
		return cmp.Or(lists[frame.Admin], lists[frame.Baseline])
	}
	return nil
}

// inUse says whether somebody has what a quarantine has set aside.
func (s *State) inUse(q *quarantine) bool {
	stand := standInKey(q.Key)
	return s.isolations[q.Key] != nil || s.isolations[stand] != nil || s.listAside(q.Key) != nil ||
		s.listAside(stand) != nil || q.address.IsValid() && s.listAt(q.kind.Direction, q.address) != nil
}

// standInList returns the list that stands in for one that is set aside: a chain that denies everything.
func (s *State) standInList(key string, at tier.Place, policies []types.NamespacedName) *list {
	q := s.standIn(listKey(key))
	key = standInKey(key)
	l := s.lists[key]
	if l == nil {
		l = &list{
			Place: at, key: key, name: at.Tier.Prefix(at.Direction) + "list-" + nft.Hash(key), policies: policies,
			users: make(map[*identity]struct{}), quarantine: q,
		}
		s.lists[key] = l
		s.open(l)
		s.troubleVersion++
		s.table.SetChain(&nft.Chain{Name: l.name, Rules: s.frame.TierEnd(at.Tier, at.Direction),
			Comment: at.Tier.String() + ": quarantined, everything is denied"})
	}
	return l
}

// open has the frame make what the list needs.
func (s *State) open(l *list) {
	if s.frame.OpenTier(l.Tier, l.Direction) {
		s.retail()
	}
}

// resolveRule replaces in a rule for the pods of id what is not in its text: the numbers that names of ports have in
// them, and the addresses of nodes. It returns those, too; nil if nothing is to be replaced.
func (s *State) resolveRule(r spec.ClusterRule, id *identity, d policy.Direction) (spec.ClusterRule, []string) {
	var found []string
	if d == policy.Ingress && len(r.Named) > 0 {
		r.Ports, r.Named = tier.Resolve(r, id.Ports), nil
		found = append(found, r.Ports.Key())
	}
	if len(r.Nodes) == 0 {
		return r, found
	}
	for _, name := range slices.Sorted(maps.Keys(s.nodePeers)) {
		n := s.nodePeers[name]
		selects := func(sel labels.Selector) bool { return sel.Matches(labels.Set(n.Labels)) }
		if !slices.ContainsFunc(r.Nodes, selects) {
			continue
		}
		for _, a := range n.Addresses {
			found = append(found, a.String())
			r.Networks = append(slices.Clip(r.Networks), netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return r, found
}

// newList makes the list of some rules, which are compiled.
func (s *State) newList(key string, compiled *tier.List, rules []tier.Rule) *list {
	l := &list{
		Place: compiled.Place,
		key:   key, name: compiled.Tier.Prefix(compiled.Direction) + "list-" + key,
		users: make(map[*identity]struct{}),
		index: make(map[*selector]int),
	}
	s.lists[key] = l
	s.open(l)
	var selectors tier.Selectors
	for i, r := range rules {
		for _, peer := range r.Peers {
			sel := s.selectorOf(peer)
			n, known := l.index[sel]
			if !known {
				n = len(l.order)
				l.index[sel], l.order = n, append(l.order, sel)
				selectors.RulesOf = append(selectors.RulesOf, nil)
				sel.Own.lists[l] = struct{}{}
			}
			selectors.RulesOf[n] = append(selectors.RulesOf[n], i)
		}
	}
	selectors.Base = -1
	if l.setBase(s); l.base != nil {
		selectors.Base, selectors.Sets = l.index[l.base], make(map[nft.Family]*nft.Set)
		for _, f := range nft.Families() {
			selectors.Sets[f] = s.setOf(l.base, f)
		}
	}
	l.placed = compiled.PutInto(s.parts, l.name, selectors)
	for _, sel := range l.order {
		for id := range sel.Matches {
			l.put(s, id)
		}
	}
	return l
}

// setBase chooses the base: the first selector that is likely to match most pods of a cluster.
func (l *list) setBase(s *State) {
	for _, sel := range l.order {
		if broad(sel.Peer) && (l.base == nil || bySelector(sel, l.base) < 0) {
			l.base = sel
		}
	}
	if l.base == nil {
		return
	}
	own := &l.base.Own
	known := len(own.lookedUpBy)+len(own.baseOf) > 0
	if own.baseOf[l] = struct{}{}; known {
		return
	}
	for id := range l.base.Matches {
		for a := range s.index.Addresses(id) {
			s.listAddress(l.base, a)
		}
	}
}

// broad says whether a peer is all pods of all namespaces, but some that it names.
func broad(p spec.Peer) bool {
	requirements, _ := p.Namespaces.Requirements()
	return p.Whole() && !slices.ContainsFunc(requirements, func(r labels.Requirement) bool {
		return r.Operator() != selection.NotIn && r.Operator() != selection.NotEquals &&
			r.Operator() != selection.DoesNotExist
	})
}

// put brings the group that the list has an identity's addresses in up to date.
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
		l.placed.Move(a, old, next)
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

// discard removes the list, which no pod has any more, and all that is only there for it.
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
	if l.base != nil {
		delete(l.base.Own.baseOf, l)
		s.dropSets(l.base)
	}
	for _, sel := range l.order {
		s.dropSelector(sel)
	}
	s.table.DeleteChain(l.name)
	delete(s.lists, l.key)
	if l.quarantine != nil {
		s.troubleVersion++
	}
	if s.frame.CloseTier(l.Tier, l.Direction) {
		s.retail()
	}
}

// retail has the chains of all egress isolations made anew.
func (s *State) retail() {
	for _, iso := range s.isolations {
		if iso.kind == (frame.Kind{Direction: policy.Egress}) {
			s.dirtyChains[iso] = struct{}{}
		}
	}
}
