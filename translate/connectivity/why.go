// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Opened is what a rule opens.
type Opened struct {
	Rule  policy.RuleRef
	Ports Ports
}

// opened returns the rules of an isolation that open something to a class.
func (m *Matrix) opened(iso *isolation, c int) []Opened {
	var all []Opened
	for r := range iso.each {
		if open := m.openTo(iso, r, c); open != noPorts {
			all = append(all, Opened{r.ref, m.ports.sets[open]})
		}
	}
	return all
}

// openTo returns what a rule opens to a class.
func (m *Matrix) openTo(iso *isolation, r *rule, c int) portsID {
	byNumber, byName := m.opens(iso, r)
	open := noPorts
	if r.anyPeer || slices.ContainsFunc(r.selectors, func(s int) bool { return has(m.selectorClasses[s], c) }) {
		open = byName(c)
	}
	if slices.ContainsFunc(r.blocks, func(b int) bool { return has(m.blockClasses[b], c) }) {
		open = m.ports.union(open, byNumber)
	}
	return open
}

// openedOutside returns the rules of an isolation that open something to addresses of networks.
func (m *Matrix) openedOutside(iso *isolation, n Networks) []Opened {
	var all []Opened
	for r := range iso.each {
		byNumber, _ := m.opens(iso, r)
		meets := func(b int) bool {
			return slices.ContainsFunc(m.rules.blocks[b], func(s Span) bool { return n.meets(s) })
		}
		if byNumber != noPorts && (r.anyPeer || slices.ContainsFunc(r.blocks, meets)) {
			all = append(all, Opened{r.ref, m.ports.sets[byNumber]})
		}
	}
	return all
}

// has says whether a sorted list has a number.
func has(sorted []int, n int) bool {
	_, found := slices.BinarySearch(sorted, n)
	return found
}

// meets says whether any address of a span is in the set.
func (n Networks) meets(s Span) bool {
	return slices.ContainsFunc(n, func(t Span) bool {
		return familyOf(s.First) == familyOf(t.First) && !s.Last.Less(t.First) && !t.Last.Less(s.First)
	})
}

// peers yields the pairs of classes of two workloads that can talk: the one of which policies of the direction isolate
// pods, and its peer.
func (m *Matrix) peers(d policy.Direction, from, to int) func(func(pod, peer int) bool) {
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
	for pod, peer := range m.peers(d, from, to) {
		open := allPorts
		if r := m.classes[pod].reach[d]; r != nil {
			open = r.grants[peer]
		}
		m.ports.add(&cell, open)
	}
	if cell.some == noPorts {
		cell.every = noPorts
	}
	return m.cell(cell)
}

// openedBetween returns the rules of one direction that open something between two workloads.
func (m *Matrix) openedBetween(d policy.Direction, from, to int) []Opened {
	var all []Opened
	for pod, peer := range m.peers(d, from, to) {
		if iso := m.classes[pod].isolations[d]; iso != nil {
			all = append(all, m.opened(iso, peer)...)
		}
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
	slices.SortFunc(names, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(names)
}
