// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"slices"

	"github.com/netpold/netpold/translate/connectivity/folding"
	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// passage is what a rule decides: ports from some classes to others.
type passage struct {
	rule      *reading.Rule
	tier      reading.Tier
	direction policy.Direction
	folding.Act
	from, to sets.Bitset
}

// connect finds all passages.
func (m *Matrix) connect() {
	m.all = sets.AllBits(0, len(m.classes))
	for t, policies := range m.rules.Tiers {
		for _, p := range policies {
			for _, d := range policy.Directions() {
				if !p.Counts[d] {
					continue
				}
				if reading.Tier(t) == reading.Plain {
					m.isolated[d].Unite(p.Pods)
				} else {
					m.tiered = true
				}
				m.sides[d].Split(p.Pods)
				for i := range p.Rules[d] {
					m.connectRule(reading.Tier(t), d, p, &p.Rules[d][i])
				}
			}
		}
	}
	for d := range m.passages { // passages of equal ports can be applied together
		all := m.passages[d][reading.Plain]
		slices.SortStableFunc(all, func(a, b *passage) int { return cmp.Compare(a.Ports, b.Ports) })
		m.sides[d].Renumber()
	}
}

// connectRule finds the passages of a rule.
func (m *Matrix) connectRule(t reading.Tier, d policy.Direction, p *reading.PolicyRules, r *reading.Rule) {
	pods := p.Pods
	if over := m.over[d][r.Ref]; t == reading.Plain && !over.Empty() {
		pods = sets.Bitset{}
		pods.Unite(p.Pods)
		pods.Subtract(over)
	}
	selected, covered := m.peers(r)
	add := func(ports sets.PortsID, from, to sets.Bitset) {
		if ports != sets.NoPorts && !from.Empty() && !to.Empty() {
			act := folding.Act{Action: r.Action, Ports: ports}
			m.passages[d][t] = append(m.passages[d][t], &passage{r, t, d, act, from, to})
		}
	}
	byNumber := m.fold.ID(r.Ports)
	switch {
	case len(r.Named) == 0 && d == policy.Egress:
		selected = joined(selected, covered)
		add(byNumber, pods, selected)
	case len(r.Named) == 0:
		add(byNumber, joined(selected, covered), pods)
	case d == policy.Egress: // an address matched by a block has no port names
		add(byNumber, pods, covered)
		for _, some := range m.byPorts(r, selected) {
			add(some.ports, pods, some.classes)
		}
	default:
		for _, some := range m.byPorts(r, pods) {
			add(some.ports, joined(selected, covered), some.classes)
		}
	}
}

// peers returns the classes that a rule's selectors match, and those that its blocks cover.
func (m *Matrix) peers(r *reading.Rule) (selected, covered sets.Bitset) {
	if r.AnyPeer {
		return m.all, sets.Bitset{}
	}
	return ofAny(m.selectorClasses, r.Selectors), ofAny(m.blockClasses, r.Blocks)
}

// ofAny returns the union of some of all.
func ofAny(all []sets.Bitset, some []int) sets.Bitset {
	var of []sets.Bitset
	for _, n := range some {
		of = append(of, all[n])
	}
	return joined(of...)
}

// joined returns the union of the sets, which may be one of them itself.
func joined(some ...sets.Bitset) sets.Bitset {
	some = slices.DeleteFunc(some, sets.Bitset.Empty)
	if len(some) == 1 {
		return some[0]
	}
	var all sets.Bitset
	for _, s := range some {
		all.Unite(s)
	}
	return all
}

// classesWith has the classes at which a rule has the same ports.
type classesWith struct {
	ports   sets.PortsID
	classes sets.Bitset
}

// byPorts groups classes by the ports that a rule has there.
func (m *Matrix) byPorts(r *reading.Rule, classes sets.Bitset) []*classesWith {
	var all []*classesWith
	ids := make(map[sets.PortsID]int)
	for c := range classes.Each {
		ports := m.fold.ID(r.PortsFor(m.classes[c].ports()))
		n := sets.Number(ids, ports, func() { all = append(all, &classesWith{ports: ports}) })
		all[n].classes.Add(c)
	}
	return all
}

// active returns the passages from a class, in order. They are valid until the next call.
func (m *Matrix) active(src int) *[2][reading.Tiers][]*passage {
	if m.nearby == nil || m.nearbyWord != src>>6 {
		m.nearby, m.nearbyWord = new([2][reading.Tiers][]*passage), src>>6
		for d := range m.passages {
			for t, all := range m.passages[d] {
				for _, p := range all {
					if p.from.Near(src) {
						m.nearby[d][t] = append(m.nearby[d][t], p)
					}
				}
			}
		}
	}
	for d := range m.nearby {
		for t, all := range m.nearby[d] {
			m.now[d][t] = m.now[d][t][:0]
			for _, p := range all {
				if p.from.Has(src) {
					m.now[d][t] = append(m.now[d][t], p)
				}
			}
		}
	}
	return &m.now
}

// towards returns the states from a class to each other, as the policies of a direction decide, or nil if they open
// everything. They are valid until the next call.
func (m *Matrix) towards(d policy.Direction, src int, active *[reading.Tiers][]*passage) []folding.StateID {
	if !m.tiered && (d == policy.Egress && !m.isolated[d].Has(src) || m.isolated[d].Empty()) {
		return nil
	}
	states := m.toward[d]
	if d == policy.Egress {
		start := folding.NotIsolated
		if m.isolated[d].Has(src) {
			start = folding.Isolated
		}
		for i := range states {
			states[i] = start
		}
	} else {
		copy(states, m.before)
	}
	for t, all := range active {
		for len(all) > 0 {
			n := 1
			for n < len(all) && all[n].Act == all[0].Act {
				n++
			}
			to := all[0].to
			if n > 1 {
				m.scratch.Clear()
				for _, p := range all[:n] {
					m.scratch.Unite(p.to)
				}
				to = m.scratch
			}
			m.fold.Apply(all[0].Act, to, states)
			all = all[n:]
		}
		if later := active[t+1:]; slices.ContainsFunc(later, func(of []*passage) bool { return len(of) > 0 }) {
			m.fold.Apply(folding.Ends(reading.Tier(t)), m.all, states)
		}
	}
	return states
}

// openFrom returns what is open from a class to each other, using open if it has room.
func (m *Matrix) openFrom(src int, open []sets.PortsID) []sets.PortsID {
	active := m.active(src)
	egress := m.towards(policy.Egress, src, &active[policy.Egress])
	ingress := m.towards(policy.Ingress, src, &active[policy.Ingress])
	open = slices.Grow(open[:0], len(m.classes))[:len(m.classes)]
	own := m.classes[src].family
	for c, f := range m.familyOf {
		switch {
		case f != own && f != 0 && own != 0:
			open[c] = otherFamily
		case egress == nil && ingress == nil:
			open[c] = sets.AllPorts
		case egress == nil:
			open[c] = m.fold.Opens[ingress[c]]
		case ingress == nil:
			open[c] = m.fold.Opens[egress[c]]
		default:
			open[c] = m.fold.Intersect(m.fold.Opens[egress[c]], m.fold.Opens[ingress[c]])
		}
	}
	return open
}
