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
	ports     sets.PortsID
	from, to  sets.Bitset
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
		slices.SortStableFunc(all, func(a, b *passage) int { return cmp.Compare(a.ports, b.ports) })
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
			m.passages[d][t] = append(m.passages[d][t],
				&passage{rule: r, tier: t, direction: d, ports: ports, from: from, to: to})
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
	for d := range m.passages {
		for t, all := range m.passages[d] {
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
	some := func(all []*passage) bool { return len(all) > 0 }
	start, isolated := folding.NotIsolated, m.isolated[d]
	if d == policy.Egress {
		start, isolated = m.initial(d, src), sets.Bitset{}
	}
	if start == folding.NotIsolated && isolated.Empty() && !slices.ContainsFunc(active[:], some) {
		return nil
	}
	states := m.states
	for c := range states {
		states[c] = start
	}
	for c := range isolated.Each {
		states[c] = folding.Isolated
	}
	for t, all := range active {
		later := slices.ContainsFunc(active[t+1:], some)
		if reading.Tier(t) == reading.Plain {
			m.addUp(all)
			for c, list := range m.lists {
				if list > 0 || later {
					states[c] = m.fold.Next(states[c], folding.Plain(m.fold.UnionOf(list)))
				}
			}
			continue
		}
		for _, p := range all {
			m.fold.Apply(folding.Rule(p.rule.Action, p.ports), p.to, states)
		}
		if later && some(all) {
			m.fold.Apply(folding.End(), m.all, states)
		}
	}
	return states
}

// initial returns the state of a class before any rule.
func (m *Matrix) initial(d policy.Direction, c int) folding.StateID {
	if m.isolated[d].Has(c) {
		return folding.Isolated
	}
	return folding.NotIsolated
}

// addUp lists what rules of NetworkPolicies, which are sorted by ports, accept to each class. Of lists there may be as
// many as classes times rules; as sets of ports these would be large.
func (m *Matrix) addUp(all []*passage) {
	clear(m.lists)
	for len(all) > 0 {
		ports := all[0].ports
		m.scratch.Clear()
		for ; len(all) > 0 && all[0].ports == ports; all = all[1:] {
			m.scratch.Unite(all[0].to)
		}
		sets.Replace(m.lists, m.scratch, func(l sets.ListID) sets.ListID { return m.fold.Append(l, ports) })
	}
}

// openFrom returns what is open from a class to each other, using open if it has room.
func (m *Matrix) openFrom(src int, open []sets.PortsID) []sets.PortsID {
	open = slices.Grow(open[:0], len(m.classes))
	own := m.classes[src].family
	for _, f := range m.familyOf {
		if f != own && f != 0 && own != 0 {
			open = append(open, otherFamily)
		} else {
			open = append(open, sets.AllPorts)
		}
	}
	for d, active := range m.active(src) {
		for c, state := range m.towards(policy.Direction(d), src, &active) {
			switch open[c] {
			case otherFamily:
			case sets.AllPorts:
				open[c] = m.fold.Opens[state]
			default:
				open[c] = m.fold.Intersect(open[c], m.fold.Opens[state])
			}
		}
	}
	return open
}
