// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/netpold/netpold/translate/connectivity/folding"
	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// trails numbers what the policies of a cluster say between two classes, or between several: a number for each list of
// passages, by that of the list without its last. What changes between a hundred million pairs is explained by far
// fewer of them.
type trails struct {
	m     *Matrix
	same  map[string]bool // ClusterNetworkPolicies of which nothing is asked
	ids   map[step]int32
	steps []step
	rows  [][]int32 // the trails from each class of a profile, by the class that they lead to

	seen     []*view // by trail; nil of what nobody asked for
	apart    *view   // of no trail
	outlooks map[string]int
}

// step is a passage more, or between other classes, a trail more.
type step struct {
	before  int32 // a trail; of the first four less than 0
	passage *passage
	joined  int32 // with no passage
}

// The bits of the first four trails, which have no passages: the pods are isolated.
const (
	isolatesSource = 1 << iota
	isolatesDestination
	beginnings
)

func newTrails(m *Matrix, same map[string]bool) *trails {
	t := &trails{m: m, same: same, ids: make(map[step]int32), outlooks: make(map[string]int)}
	t.apart = t.look(-1)
	for i := range int32(beginnings) {
		t.number(step{before: i - beginnings})
	}
	return t
}

func (t *trails) number(s step) int32 {
	return sets.Number(t.ids, s, func() { t.steps = append(t.steps, s) })
}

// lead finds the trails from the classes of a profile to some classes.
func (t *trails) lead(from []member, to sets.Bitset) {
	for i, a := range from {
		if i == len(t.rows) {
			t.rows = append(t.rows, make([]int32, len(t.m.classes)))
		}
		row, begin := t.rows[i], int32(0)
		if t.m.isolated[policy.Egress].Has(a.class) {
			begin = isolatesSource
		}
		for c := range to.Each {
			if row[c] = begin; t.m.isolated[policy.Ingress].Has(c) {
				row[c] |= isolatesDestination
			}
		}
		for _, byTier := range t.m.active(a.class) {
			for _, passages := range byTier {
				for _, p := range passages {
					t.pass(p, to, row)
				}
			}
		}
	}
}

// pass makes the trails to some classes longer by a passage.
func (t *trails) pass(p *passage, to sets.Bitset, row []int32) {
	last, next := int32(-1), int32(-1)
	for c := range p.to.EachOf(to) {
		if row[c] != last {
			last, next = row[c], t.number(step{before: row[c], passage: p})
		}
		row[c] = next
	}
}

// between returns the trail between two profiles, of which the first was asked to lead to the other's classes. It is -1
// where they have no family in common.
func (t *trails) between(from, to []member) int32 {
	all := int32(-1)
	for i, a := range from {
		for _, b := range to {
			if f, g := t.m.familyOf[a.class], t.m.familyOf[b.class]; f != g && f != 0 && g != 0 {
				continue
			} else if all < 0 {
				all = t.rows[i][b.class]
			} else {
				all = t.number(step{before: all, joined: t.rows[i][b.class]})
			}
		}
	}
	return all
}

// view is what a trail says, by direction.
type view struct {
	cell     [2]cellID
	isolated [2]bool       // all of the pods
	opens    [2][]*passage // of NetworkPolicies
	decides  [2][]decision
	outlook  int32 // equal for trails with the same cells and decisions
}

// decision is what a rule of a ClusterNetworkPolicy decides about.
type decision struct {
	rule  *reading.Rule
	ports sets.PortsID
}

func (t *trails) view(trail int32) *view {
	if trail < 0 {
		return t.apart
	}
	if more := len(t.steps) - len(t.seen); more > 0 {
		t.seen = append(t.seen, make([]*view, more)...)
	}
	if t.seen[trail] == nil {
		t.seen[trail] = t.look(trail)
	}
	return t.seen[trail]
}

func (t *trails) look(trail int32) *view {
	v := &view{isolated: [2]bool{true, true}}
	for d := range v.cell {
		v.cell[d] = cellID{every: sets.AllPorts}
	}
	for trail >= 0 {
		one := trail
		if s := t.steps[trail]; s.passage == nil && s.before >= 0 {
			one, trail = s.joined, s.before
		} else {
			trail = -1
		}
		t.lookAlong(one, v)
	}
	var key []byte
	for d, cell := range v.cell {
		if cell.some == sets.NoPorts {
			v.cell[d].every = sets.NoPorts
		}
		key = binary.AppendUvarint(binary.AppendUvarint(key, uint64(v.cell[d].every)), uint64(cell.some))
		for _, decided := range v.decides[d] {
			key = fmt.Appendf(key, "%v %d,", decided.rule.ClusterRef, decided.ports)
		}
	}
	v.outlook = int32(sets.Number(t.outlooks, string(key), func() {}))
	return v
}

// lookAlong adds what is said between two classes.
func (t *trails) lookAlong(trail int32, v *view) {
	var by [2][reading.Tiers][]*passage
	for ; trail >= beginnings; trail = t.steps[trail].before {
		p := t.steps[trail].passage
		by[p.direction][p.tier] = append(by[p.direction][p.tier], p)
	}
	for _, d := range policy.Directions() {
		at, bit := folding.NotIsolated, int32(isolatesSource)
		if d == policy.Ingress {
			bit = isolatesDestination
		}
		if trail&bit != 0 {
			at = folding.Isolated
		} else {
			v.isolated[d] = false
		}
		for tier, passages := range by[d] {
			if reading.Tier(tier) == reading.Plain {
				list := sets.ListID(0)
				for _, p := range slices.Backward(passages) {
					list, v.opens[d] = t.m.fold.Append(list, p.ports), append(v.opens[d], p)
				}
				at = t.m.fold.Next(at, folding.Plain(t.m.fold.UnionOf(list)))
				continue
			}
			rest := sets.AllPorts
			for _, p := range slices.Backward(passages) {
				at = t.m.fold.Next(at, folding.Rule(p.rule.Action, p.ports))
				decided := t.m.fold.Intersect(rest, p.ports)
				rest = t.m.fold.Minus(rest, decided)
				if decided != sets.NoPorts && !t.same[p.rule.ClusterRef.Policy] {
					v.decides[d] = append(v.decides[d], decision{p.rule, decided})
				}
			}
			at = t.m.fold.Next(at, folding.End())
		}
		t.m.add(&v.cell[d], t.m.fold.Opens[at])
	}
}
