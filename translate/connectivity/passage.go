// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"slices"

	"github.com/netpold/netpold/translate/policy"
)

// passage is what a rule decides: ports from some classes to others.
type passage struct {
	rule *rule
	act
	from, to bitset
}

// connect finds the passages.
func (m *Matrix) connect() {
	m.all = allBits(0, len(m.classes))
	for t, policies := range m.rules.tiers {
		for _, p := range policies {
			for _, d := range policy.Directions() {
				if !p.counts[d] {
					continue
				}
				if tier(t) == plain {
					m.isolated[d].unite(p.pods)
				} else {
					m.tiered = true
				}
				m.sides[d].split(p.pods)
				for i := range p.rules[d] {
					m.connectRule(tier(t), d, p, &p.rules[d][i])
				}
			}
		}
	}
	for d := range m.passages { // those of equal ports can be asked at once
		slices.SortStableFunc(m.passages[d][plain], func(a, b *passage) int { return cmp.Compare(a.ports, b.ports) })
		m.sides[d].renumber()
	}
}

// connectRule finds the passages of a rule.
func (m *Matrix) connectRule(t tier, d policy.Direction, p *policyRules, r *rule) {
	pods := p.pods
	if over := m.over[d][r.ref]; t == plain && !over.empty() {
		pods = bitset{}
		pods.unite(p.pods)
		pods.subtract(over)
	}
	selected, covered := m.peers(r)
	add := func(ports portsID, from, to bitset) {
		if ports != noPorts && !from.empty() && !to.empty() {
			m.passages[d][t] = append(m.passages[d][t], &passage{r, act{r.action, ports}, from, to})
		}
	}
	byNumber := m.id(r.ports)
	switch {
	case len(r.named) == 0 && d == policy.Egress:
		selected = joined(selected, covered)
		add(byNumber, pods, selected)
	case len(r.named) == 0:
		add(byNumber, joined(selected, covered), pods)
	case d == policy.Egress: // an address that is matched as one has no names of ports
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

// peers returns the classes that a rule's selectors match, and those that its blocks have.
func (m *Matrix) peers(r *rule) (selected, covered bitset) {
	if r.anyPeer {
		return m.all, bitset{}
	}
	return ofAny(m.selectorClasses, r.selectors), ofAny(m.blockClasses, r.blocks)
}

// ofAny returns what is in any of some sets.
func ofAny(sets []bitset, some []int) bitset {
	var of []bitset
	for _, n := range some {
		of = append(of, sets[n])
	}
	return joined(of...)
}

// joined returns what is in any of the sets, which may be one of them.
func joined(sets ...bitset) bitset {
	sets = slices.DeleteFunc(sets, bitset.empty)
	if len(sets) == 1 {
		return sets[0]
	}
	var all bitset
	for _, s := range sets {
		all.unite(s)
	}
	return all
}

// classesWith is classes at which a rule is about some ports.
type classesWith struct {
	ports   portsID
	classes bitset
}

// byPorts parts classes by the ports that a rule is about there.
func (m *Matrix) byPorts(r *rule, classes bitset) []*classesWith {
	var all []*classesWith
	ids := make(map[portsID]int)
	for c := range classes.each {
		ports := m.id(r.portsFor(m.classes[c].ports()))
		n := number(ids, ports, func() { all = append(all, &classesWith{ports: ports}) })
		all[n].classes.add(c)
	}
	return all
}

// active returns the passages from a class, in their order. They are good until the next call.
func (m *Matrix) active(src int) *[2][tiers][]*passage {
	if m.nearby == nil || m.nearbyWord != src>>6 {
		m.nearby, m.nearbyWord = new([2][tiers][]*passage), src>>6
		for d := range m.passages {
			for t, all := range m.passages[d] {
				for _, p := range all {
					if n := m.nearbyWord - p.from.first; 0 <= n && n < len(p.from.words) && p.from.words[n] != 0 {
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
				if p.from.has(src) {
					m.now[d][t] = append(m.now[d][t], p)
				}
			}
		}
	}
	return &m.now
}

// towards returns the states of what goes from a class to each, as policies of a direction decide it, or nil where that
// is to open everything. They are good until the next call.
func (m *Matrix) towards(d policy.Direction, src int, active *[tiers][]*passage) []stateID {
	if !m.tiered && (d == policy.Egress && !m.isolated[d].has(src) || m.isolated[d].empty()) {
		return nil
	}
	states := m.toward[d]
	if d == policy.Egress {
		start := notIsolated
		if m.isolated[d].has(src) {
			start = isolated
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
			for n < len(all) && all[n].act == all[0].act {
				n++
			}
			to := all[0].to
			if n > 1 {
				clear(m.scratch.words)
				for _, p := range all[:n] {
					m.scratch.unite(p.to)
				}
				to = m.scratch
			}
			m.apply(all[0].act, to, states)
			all = all[n:]
		}
		if later := active[t+1:]; slices.ContainsFunc(later, func(of []*passage) bool { return len(of) > 0 }) {
			m.apply(tier(t).ends(), m.all, states)
		}
	}
	return states
}

// openFrom returns what is open from a class to each, in open if there is room.
func (m *Matrix) openFrom(src int, open []portsID) []portsID {
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
			open[c] = allPorts
		case egress == nil:
			open[c] = m.opens[ingress[c]]
		case ingress == nil:
			open[c] = m.opens[egress[c]]
		default:
			open[c] = m.intersect(m.opens[egress[c]], m.opens[ingress[c]])
		}
	}
	return open
}
