// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"slices"

	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// pairKey is equal for pairs of workloads with the same change for the same reasons: a hundred million pairs may
// change.
type pairKey struct {
	cells           [2]cellID
	from, to, trace [2]int
}

// pairKey returns the key of two workloads, given the passages from the first.
func (c *comparison) pairKey(cells [2]cellID, from [2]ways, pair [2]int) pairKey {
	key := pairKey{cells: cells}
	if c.same == nil {
		return key
	}
	lacking := false
	for k := range c.m {
		key.from[k], key.to[k] = c.sides[policy.Egress][k][pair[0]], c.sides[policy.Ingress][k][pair[1]]
		lacking = lacking || key.from[k] < 0 || key.to[k] < 0
	}
	for k, m := range c.m {
		if lacking { // which is the cause
			key.from[k], key.to[k] = min(key.from[k], 0), min(key.to[k], 0)
		} else {
			key.trace[k] = c.trace[k].of(m, from[k], c.profile(k, pair[1]))
		}
	}
	return key
}

// findSides numbers the sets of policies that isolate the workloads.
func (c *comparison) findSides() {
	for _, d := range policy.Directions() {
		for k, m := range c.m {
			ids := make(map[string]int)
			for _, w := range c.at[k] {
				side := -1
				if w >= 0 {
					side = sets.Number(ids, m.sidesOf(d, w), func() {})
				}
				c.sides[d][k] = append(c.sides[d][k], side)
			}
		}
	}
}

// ways has the passages from each class of a profile.
type ways []struct {
	class    int
	passages []*passage
}

func (m *Matrix) waysFrom(profile int) ways {
	all := make(ways, len(m.profiles[profile]))
	for i, of := range m.profiles[profile] {
		all[i].class = of.class
		for _, byTier := range m.active(of.class) {
			all[i].passages = append(all[i].passages, slices.Concat(byTier[:]...)...)
		}
	}
	return all
}

// traces numbers lists of passages, each by the number of the list without its last passage.
type traces map[traceStep]int

type traceStep struct {
	before int
	next   *passage // nil separates two pairs of classes
}

func (t traces) next(before int, p *passage) int {
	key := traceStep{before, p}
	n, known := t[key]
	if !known {
		n = len(t) + 1
		t[key] = n
	}
	return n
}

// of returns the number of the passages to each class of a profile.
func (t traces) of(m *Matrix, from ways, profile int) int {
	trace := 0
	for _, a := range from {
		for _, b := range m.profiles[profile] {
			trace = t.next(trace, nil)
			if f, g := m.classes[a.class].family, m.classes[b.class].family; f != g && f != 0 && g != 0 {
				continue
			}
			for _, p := range a.passages {
				if p.to.Has(b.class) {
					trace = t.next(trace, p)
				}
			}
		}
	}
	return trace
}
