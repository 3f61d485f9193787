// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"net/netip"
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/folding"
	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// outsideRule is what one or more rules do with addresses in some spans.
type outsideRule struct {
	action   v1alpha2.ClusterNetworkPolicyRuleAction
	ports    sets.PortsID
	networks Networks
}

// openOutside returns what is open between a class and each address of a family: sorted, without gaps, and with no
// equal neighbours.
func (m *Matrix) openOutside(d policy.Direction, c int, f sets.Family) []opening {
	var byTier [reading.Tiers][]outsideRule
	begins := []netip.Addr{sets.WholeFamily(f).First}
	for t := range byTier {
		byTier[t] = m.outsideRules(d, reading.Tier(t), c, f)
		begins = append(begins, beginsOf(byTier[t])...)
	}
	spans := sets.CutAt(f, begins)
	states := make([]folding.StateID, len(spans))
	for i := range states {
		states[i] = m.initial(d, c)
	}
	for t, rules := range byTier {
		lists := make([]sets.ListID, len(spans))
		for _, r := range rules {
			for _, s := range r.networks {
				for i := beginAt(spans, s.First); i < len(spans) && !s.Last.Less(spans[i].Last); i++ {
					if reading.Tier(t) == reading.Plain {
						lists[i] = m.fold.Append(lists[i], r.ports)
					} else {
						states[i] = m.fold.Next(states[i], folding.Rule(r.action, r.ports))
					}
				}
			}
		}
		for i := range states {
			act := folding.End()
			if reading.Tier(t) == reading.Plain {
				act = folding.Plain(m.fold.UnionOf(lists[i]))
			}
			states[i] = m.fold.Next(states[i], act)
		}
	}
	var all []opening
	for i, s := range spans {
		ports := m.fold.Opens[states[i]]
		if n := len(all); n > 0 && all[n-1].ports == ports {
			all[n-1].Last = s.Last
			continue
		}
		all = append(all, opening{s, ports})
	}
	return all
}

// beginsOf returns the addresses at which the effect of rules may change.
func beginsOf(rules []outsideRule) []netip.Addr {
	var begins []netip.Addr
	for _, r := range rules {
		for _, s := range r.networks {
			begins = append(begins, s.First)
			if after := s.Last.Next(); after.IsValid() {
				begins = append(begins, after)
			}
		}
	}
	return begins
}

func beginAt(spans []Span, first netip.Addr) int {
	i, _ := slices.BinarySearchFunc(spans, first, func(s Span, first netip.Addr) int { return s.First.Compare(first) })
	return i
}

// outsideRules returns what a tier's rules do, in order, between a class and outside addresses of a family. Rules with
// the same effect are merged as far as the order allows.
func (m *Matrix) outsideRules(d policy.Direction, t reading.Tier, c int, f sets.Family) []outsideRule {
	var rules []outsideRule
	for r := range m.rulesFor(d, t, c) {
		ports := m.numberedPorts(d, r, c)
		if ports == sets.NoPorts {
			continue
		}
		of := outsideRule{action: r.Action, ports: ports}
		if r.AnyPeer {
			of.networks = Networks{sets.WholeFamily(f)}
		}
		for _, b := range r.Blocks {
			of.networks = append(of.networks, m.rules.Blocks[b].In(f)...)
		}
		rules = append(rules, of)
	}
	if t == reading.Plain {
		slices.SortStableFunc(rules, func(a, b outsideRule) int { return cmp.Compare(a.ports, b.ports) })
	}
	merged := rules[:0]
	for len(rules) > 0 {
		n := 1
		for ; n < len(rules) && rules[n].action == rules[0].action && rules[n].ports == rules[0].ports; n++ {
			rules[0].networks = append(rules[0].networks, rules[n].networks...)
		}
		rules[0].networks = sets.Union(rules[0].networks...)
		merged = append(merged, rules[0])
		rules = rules[n:]
	}
	return merged
}

// rulesFor yields the rules of a tier that apply to the pods of a class, in order, including invalid rules of
// NetworkPolicies, which open nothing.
func (m *Matrix) rulesFor(d policy.Direction, t reading.Tier, c int) func(func(*reading.Rule) bool) {
	return func(yield func(*reading.Rule) bool) {
		for p := range m.policiesFor(d, t, c) {
			for i := range p.Rules[d] {
				r := &p.Rules[d][i]
				if over := m.over[d][r.Ref]; (t != reading.Plain || !over.Has(c)) && !yield(r) {
					return
				}
			}
		}
	}
}

// policiesFor yields the policies of a tier that apply to the pods of a class, in order.
func (m *Matrix) policiesFor(d policy.Direction, t reading.Tier, c int) func(func(*reading.PolicyRules) bool) {
	return func(yield func(*reading.PolicyRules) bool) {
		for _, p := range m.rules.Tiers[t] {
			if p.Counts[d] && p.Pods.Has(c) && !yield(p) {
				return
			}
		}
	}
}

// numberedPorts returns the ports of a rule at an outside address or, from there, at a class.
func (m *Matrix) numberedPorts(d policy.Direction, r *reading.Rule, c int) sets.PortsID {
	if d == policy.Egress {
		return m.fold.ID(r.Ports)
	}
	return m.fold.ID(r.PortsFor(m.classes[c].ports()))
}

// opening is what is open to the addresses of a span.
type opening struct {
	Span
	ports sets.PortsID
}

// at returns what is open to an address; openings are those of its family, without gaps.
func at(openings []opening, a netip.Addr) sets.PortsID {
	i, _ := slices.BinarySearchFunc(openings, a, func(o opening, a netip.Addr) int { return o.Last.Compare(a) })
	return openings[i].ports
}
