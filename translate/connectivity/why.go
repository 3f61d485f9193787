// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"iter"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Opened is what a rule opens.
type Opened struct {
	Rule  policy.RuleRef
	Ports Ports
}

// opened returns the rules of NetworkPolicies of a class that open something to another.
func (m *Matrix) opened(d policy.Direction, own, peer int) []Opened {
	return m.openedBy(d, own, m.toClass(d, own, peer))
}

// openedOutside returns the rules of NetworkPolicies of a class that open something to addresses of networks.
func (m *Matrix) openedOutside(d policy.Direction, own int, n Networks) []Opened {
	return m.openedBy(d, own, m.toAny(d, own, n.meets))
}

func (m *Matrix) openedBy(d policy.Direction, own int, match match) []Opened {
	var all []Opened
	for r := range m.rulesFor(d, plain, own) {
		if open := match(r); open != noPorts {
			all = append(all, Opened{r.ref, m.sets[open]})
		}
	}
	return all
}

// match is what a rule would match.
type match = func(*rule) portsID

// toClass returns what each rule for a class would match of another.
func (m *Matrix) toClass(d policy.Direction, own, peer int) match {
	return func(r *rule) portsID {
		has := func(sets []bitset) func(int) bool { return func(n int) bool { return sets[n].has(peer) } }
		open := noPorts
		if r.anyPeer || slices.ContainsFunc(r.selectors, has(m.selectorClasses)) {
			at := peer
			if d == policy.Ingress {
				at = own
			}
			open = m.id(r.portsFor(m.classes[at].ports()))
		}
		if slices.ContainsFunc(r.blocks, has(m.blockClasses)) {
			open = m.union(open, m.numberedPorts(d, r, own))
		}
		return open
	}
}

// toAddress returns what each rule for a class would match of an address that is no pod's.
func (m *Matrix) toAddress(d policy.Direction, own int, a netip.Addr) match {
	return m.toAny(d, own, func(s Span) bool { return !a.Less(s.First) && !s.Last.Less(a) })
}

// toAny returns what each rule for a class would match of outside addresses that meet a span.
func (m *Matrix) toAny(d policy.Direction, own int, meets func(Span) bool) match {
	return func(r *rule) portsID {
		if !r.anyPeer && !slices.ContainsFunc(r.blocks, func(b int) bool {
			return slices.ContainsFunc(m.rules.blocks[b], meets)
		}) {
			return noPorts
		}
		return m.numberedPorts(d, r, own)
	}
}

// matched yields the rules of a tier for a class that decide about something, each with what it decides about, given
// what each of them would match.
func (m *Matrix) matched(d policy.Direction, t tier, own int, match match) iter.Seq2[*rule, portsID] {
	return func(yield func(*rule, portsID) bool) {
		rest := allPorts
		for r := range m.rulesFor(d, t, own) {
			ports := m.intersect(rest, match(r))
			if ports == noPorts {
				continue
			}
			if rest = m.minus(rest, ports); !yield(r, ports) || rest == noPorts {
				return
			}
		}
	}
}

// TieredBy returns the ClusterNetworkPolicies that have rules for pods of a workload in a direction, as "Admin: guard",
// in the order in which they are asked.
func (m *Matrix) TieredBy(d policy.Direction, workload int) []string {
	var names []string
	for _, t := range []tier{admin, baseline} {
		for _, p := range m.rules.tiers[t] {
			has := func(of member) bool { return p.pods.has(of.class) }
			if p.counts[d] && slices.ContainsFunc(m.members[workload], has) {
				names = append(names, p.String())
			}
		}
	}
	return names
}

// meets says whether any address of a span is in the set.
func (n Networks) meets(s Span) bool {
	return slices.ContainsFunc(n, func(t Span) bool {
		return familyOf(s.First) == familyOf(t.First) && !s.Last.Less(t.First) && !t.Last.Less(s.First)
	})
}

// peersOf yields the pairs of classes of two workloads that can talk: the one that policies of the direction are for,
// and its peer.
func (m *Matrix) peersOf(d policy.Direction, from, to int) func(func(pod, peer int) bool) {
	return func(yield func(pod, peer int) bool) {
		for _, a := range m.members[from] {
			for _, b := range m.members[to] {
				f, g := m.classes[a.class].family, m.classes[b.class].family
				pod, peer := a.class, b.class
				if d == policy.Ingress {
					pod, peer = peer, pod
				}
				if (f == g || f == 0 || g == 0) && !yield(pod, peer) {
					return
				}
			}
		}
	}
}

// directionCell is what policies of one direction open from a workload to another.
func (m *Matrix) directionCell(d policy.Direction, from, to int) Cell {
	cell := cellID{allPorts, noPorts}
	for pod, peer := range m.peersOf(d, from, to) {
		m.add(&cell, m.direction(d, pod, peer))
	}
	if cell.some == noPorts {
		cell.every = noPorts
	}
	return m.cell(cell)
}

// direction returns what policies of one direction open between a class that they are for and another.
func (m *Matrix) direction(d policy.Direction, own, peer int) portsID {
	at, match := notIsolated, m.toClass(d, own, peer)
	if m.isolated[d].has(own) {
		at = isolated
	}
	for t := range tiers {
		for r := range m.rulesFor(d, t, own) {
			if ports := match(r); ports != noPorts {
				at = m.next(at, act{r.action, ports})
			}
		}
		at = m.next(at, t.ends())
	}
	return m.opens[at]
}

// openedBetween returns the rules of one direction that open something between two workloads.
func (m *Matrix) openedBetween(d policy.Direction, from, to int) []Opened {
	var all []Opened
	for pod, peer := range m.peersOf(d, from, to) {
		all = append(all, m.opened(d, pod, peer)...)
	}
	return all
}

// policiesOf returns the policies of rules that open some of the ports, sorted.
func policiesOf(all []Opened, ports Ports) []types.NamespacedName {
	var names []types.NamespacedName
	for _, o := range all {
		if !o.Ports.intersect(ports).Empty() {
			names = append(names, o.Rule.Policy)
		}
	}
	return sortedNames(names)
}

func sortedNames(names []types.NamespacedName) []types.NamespacedName {
	slices.SortFunc(names, compareNames)
	return slices.Compact(names)
}
