// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/translate/policy"
)

// outsideKey is what decides about addresses that are no pod's.
type outsideKey struct {
	direction policy.Direction
	side      int
	family    family
}

// openOutside returns what is open between a class and each address of a family: sorted, without gaps, and neighbours
// differ.
func (m *Matrix) openOutside(d policy.Direction, c int, f family) []opening {
	key := outsideKey{d, m.sides[d].of[c], f}
	all, known := m.outsides[key]
	if !known {
		if len(m.outsides) == 64 { // each may be large
			clear(m.outsides)
		}
		all = m.overlay(d, c, f)
		m.outsides[key] = all
	}
	return all
}

// outsideRule is what a rule, or several, do with addresses of some spans.
type outsideRule struct {
	act
	networks Networks
}

// overlay is openOutside for the first time.
func (m *Matrix) overlay(d policy.Direction, c int, f family) []opening {
	var byTier [tiers][]outsideRule
	begins := []netip.Addr{wholeFamily(f).First}
	for t := range byTier {
		byTier[t] = m.outsideRules(d, tier(t), c, f)
		begins = append(begins, beginsOf(byTier[t])...)
	}
	spans := cutAt(f, begins)
	states := make([]stateID, len(spans))
	for i := range states {
		if states[i] = notIsolated; m.isolated[d].has(c) {
			states[i] = isolated
		}
	}
	for t, rules := range byTier {
		for _, r := range rules {
			for _, s := range r.networks {
				for i := beginAt(spans, s.First); i < len(spans) && !s.Last.Less(spans[i].Last); i++ {
					states[i] = m.next(states[i], r.act)
				}
			}
		}
		for i := range states {
			states[i] = m.next(states[i], tier(t).ends())
		}
	}
	var all []opening
	for i, s := range spans {
		ports := m.opens[states[i]]
		if n := len(all); n > 0 && all[n-1].ports == ports {
			all[n-1].Last = s.Last
			continue
		}
		all = append(all, opening{s, ports})
	}
	return all
}

// beginsOf returns the addresses from which on rules may do something else.
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

// outsideRules returns what rules of a tier do for a class with outside addresses of a family, in their order. Those
// that do the same are one, as far as the order allows.
func (m *Matrix) outsideRules(d policy.Direction, t tier, c int, f family) []outsideRule {
	var rules []outsideRule
	for r := range m.rulesFor(d, t, c) {
		ports := m.numberedPorts(d, r, c)
		if ports == noPorts {
			continue
		}
		of := outsideRule{act: act{r.action, ports}}
		if r.anyPeer {
			of.networks = Networks{wholeFamily(f)}
		}
		for _, b := range r.blocks {
			of.networks = append(of.networks, m.rules.blocks[b].in(f)...)
		}
		rules = append(rules, of)
	}
	if t == plain {
		slices.SortStableFunc(rules, func(a, b outsideRule) int { return cmp.Compare(a.ports, b.ports) })
	}
	merged := rules[:0]
	for len(rules) > 0 {
		n := 1
		for ; n < len(rules) && rules[n].act == rules[0].act; n++ {
			rules[0].networks = append(rules[0].networks, rules[n].networks...)
		}
		merged = append(merged, outsideRule{rules[0].act, union(rules[0].networks...)})
		rules = rules[n:]
	}
	return merged
}

// rulesFor yields the rules of a tier that have a say about the pods of a class, in their order. Those of
// NetworkPolicies that are not valid are among them, and open nothing.
func (m *Matrix) rulesFor(d policy.Direction, t tier, c int) func(func(*rule) bool) {
	return func(yield func(*rule) bool) {
		for p := range m.policiesFor(d, t, c) {
			for i := range p.rules[d] {
				r := &p.rules[d][i]
				if over := m.over[d][r.ref]; (t != plain || !over.has(c)) && !yield(r) {
					return
				}
			}
		}
	}
}

// policiesFor yields the policies of a tier that have a say about the pods of a class, in their order.
func (m *Matrix) policiesFor(d policy.Direction, t tier, c int) func(func(*policyRules) bool) {
	return func(yield func(*policyRules) bool) {
		for _, p := range m.rules.tiers[t] {
			if p.counts[d] && p.pods.has(c) && !yield(p) {
				return
			}
		}
	}
}

// numberedPorts returns what ports a rule is about at an outside address, or from there at a class.
func (m *Matrix) numberedPorts(d policy.Direction, r *rule, c int) portsID {
	if d == policy.Egress {
		return m.id(r.ports)
	}
	return m.id(r.portsFor(m.classes[c].ports()))
}
