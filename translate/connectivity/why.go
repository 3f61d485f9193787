// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"iter"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Opened is what a rule opens.
type Opened struct {
	Rule  policy.RuleRef
	Ports Ports
}

// opened returns the NetworkPolicy rules of a class that open something, given match.
func (m *Matrix) opened(d policy.Direction, own int, match match) []Opened {
	var all []Opened
	for r := range m.rulesFor(d, reading.Plain, own) {
		if open := match(r); open != sets.NoPorts {
			all = append(all, Opened{r.Ref, m.fold.Sets[open]})
		}
	}
	return all
}

// match returns the ports that a rule would match.
type match = func(*reading.Rule) sets.PortsID

// decided is rules, each with the ports that it decides.
type decided = iter.Seq2[*reading.Rule, sets.PortsID]

// toClass returns the match of rules for a class with another class.
func (m *Matrix) toClass(d policy.Direction, own, peer int) match {
	return func(r *reading.Rule) sets.PortsID {
		has := func(of []sets.Bitset) func(int) bool { return func(n int) bool { return of[n].Has(peer) } }
		open := sets.NoPorts
		if r.AnyPeer || slices.ContainsFunc(r.Selectors, has(m.selectorClasses)) {
			at := peer
			if d == policy.Ingress {
				at = own
			}
			open = m.fold.ID(r.PortsFor(m.classes[at].ports()))
		}
		if slices.ContainsFunc(r.Blocks, has(m.blockClasses)) {
			open = m.fold.Union(open, m.numberedPorts(d, r, own))
		}
		return open
	}
}

// toAny returns the match of rules for a class with outside addresses in spans for which meets is true.
func (m *Matrix) toAny(d policy.Direction, own int, meets func(Span) bool) match {
	return func(r *reading.Rule) sets.PortsID {
		if !r.AnyPeer && !slices.ContainsFunc(r.Blocks, func(b int) bool {
			return slices.ContainsFunc(m.rules.Blocks[b], meets)
		}) {
			return sets.NoPorts
		}
		return m.numberedPorts(d, r, own)
	}
}

// matched yields the rules of a tier for a class that decide anything, each with the ports that it decides, given
// match.
func (m *Matrix) matched(d policy.Direction, t reading.Tier, own int, match match) decided {
	return func(yield func(*reading.Rule, sets.PortsID) bool) {
		rest := sets.AllPorts
		for r := range m.rulesFor(d, t, own) {
			ports := m.fold.Intersect(rest, match(r))
			if ports == sets.NoPorts {
				continue
			}
			if rest = m.fold.Minus(rest, ports); !yield(r, ports) || rest == sets.NoPorts {
				return
			}
		}
	}
}

// TieredBy returns the ClusterNetworkPolicies with rules for pods of a workload in a direction, such as "Admin: guard",
// in order of evaluation.
func (m *Matrix) TieredBy(d policy.Direction, workload int) []string {
	var names []string
	for _, t := range []reading.Tier{reading.Admin, reading.Baseline} {
		for _, p := range m.rules.Tiers[t] {
			has := func(of member) bool { return p.Pods.Has(of.class) }
			if p.Counts[d] && slices.ContainsFunc(m.members[workload], has) {
				names = append(names, p.String())
			}
		}
	}
	return names
}

// policiesOf returns the policies of rules that open some of the ports, sorted.
func policiesOf(all []Opened, ports Ports) []types.NamespacedName {
	var names []types.NamespacedName
	for _, o := range all {
		if !o.Ports.Intersect(ports).Empty() {
			names = append(names, o.Rule.Policy)
		}
	}
	return sortedNames(names)
}

func sortedNames(names []types.NamespacedName) []types.NamespacedName {
	slices.SortFunc(names, reading.CompareNames)
	return slices.Compact(names)
}
