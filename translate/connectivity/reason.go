// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// reasons is what was found out about what changes come from. It is forgotten when it is much.
type reasons struct {
	trails [2]*trails
	drafts map[draftKey]*drafts
	kinds  map[kindKey]int
}

// maxReasons is how many trails and causes are remembered, at some 100 bytes each.
const maxReasons = 1 << 18

// draftKey is equal for pairs of workloads of which the same ports, which are open in one cluster alone, have the same
// causes, but for what isolates the pods in the other.
type draftKey struct {
	gained  bool
	ports   int32
	trail   int32 // in the cluster that opens them
	outlook int32 // in the other
}

// drafts is what may be the causes, by direction.
type drafts struct {
	all      [2]draft
	kind     int  // the kind of the changes, if it is known; else -1
	isolates bool // it depends on what isolates the pods
}

// draft is a cause; one that isolates is still to be filled in by the policies that isolate the pods.
type draft struct {
	Cause
	isolates bool
	likely   bool
}

// kindKey is equal for pairs that have the same causes.
type kindKey struct {
	*drafts
	gained bool
	ports  int32  // without drafts
	sides  [2]int // what isolates the pods in the other cluster, by direction, if that is a cause
}

// explain notes what changes between a workload and each target, and why.
func (c *comparison) explain(g *changes, from int, alike [][]int) {
	c.follow(from, alike)
	for _, t := range c.targets {
		for k, id := range t.change.id {
			if id > 0 {
				g.Add(c.kind(g, k, t.change, [2]int{from, alike[t.of][0]}), t.of)
			}
		}
	}
}

// follow finds the trails from a workload to the targets.
func (c *comparison) follow(from int, alike [][]int) {
	if c.same == nil || len(c.targets) == 0 {
		return
	}
	if r := c.reasons; r.drafts == nil ||
		len(r.trails[0].steps)+len(r.trails[1].steps)+len(r.drafts)+len(r.kinds) > maxReasons {
		c.reasons = reasons{drafts: make(map[draftKey]*drafts), kinds: make(map[kindKey]int)}
		for k, m := range c.m {
			c.reasons.trails[k] = newTrails(m, c.sameTier)
		}
	}
	for k, m := range c.m {
		p := c.profile(k, from)
		if p < 0 {
			continue
		}
		m.scratch.Clear()
		for _, t := range c.targets {
			if to := c.profile(k, alike[t.of][0]); to >= 0 {
				for _, member := range m.profiles[to] {
					m.scratch.Add(member.class)
				}
			}
		}
		c.reasons.trails[k].lead(m.profiles[p], m.scratch)
	}
}

// kind returns the kind of what cluster k allows between two workloads, and the other does not.
func (c *comparison) kind(g *changes, k int, of change, pair [2]int) int {
	key := kindKey{gained: k == 1, ports: of.id[k]}
	if c.same != nil && c.at[1-k][pair[0]] >= 0 && c.at[1-k][pair[1]] >= 0 {
		key.drafts = c.drafts(k, of, pair)
		if key.kind >= 0 {
			return key.kind
		}
		for _, draft := range key.all {
			if draft.isolates {
				key.sides[draft.Direction] = 1 + c.sides[draft.Direction][1-k][podOf(draft.Direction, pair)]
			}
		}
	}
	kind, known := c.reasons.kinds[key]
	if !known {
		of := Change{Gained: k == 1, Ports: of.ports[k]}
		if of.Causes = c.missing(k, pair[:]...); key.drafts != nil {
			of.Causes = c.causes(k, key.drafts, pair)
		}
		kind = g.kind(of)
		c.reasons.kinds[key] = kind
	}
	if key.drafts != nil && !key.isolates {
		key.kind = kind
	}
	return kind
}

// podOf returns the one of two workloads that policies of a direction are for.
func podOf(d policy.Direction, pair [2]int) int {
	if d == policy.Ingress {
		return pair[1]
	}
	return pair[0]
}

// drafts returns what may be the causes of what cluster k allows between two workloads.
func (c *comparison) drafts(k int, of change, pair [2]int) *drafts {
	key := draftKey{gained: k == 1, ports: of.id[k]}
	var views [2]*view
	for i, m := range c.m {
		t := c.reasons.trails[i]
		trail := t.between(m.profiles[c.profile(i, pair[0])], m.profiles[c.profile(i, pair[1])])
		views[i] = t.view(trail)
		if i == k {
			key.trail = trail
		}
	}
	key.outlook = views[1-k].outlook
	some := c.reasons.drafts[key]
	if some == nil {
		some = &drafts{kind: -1}
		for i, d := range policy.Directions() {
			some.all[i] = c.draft(k, d, of.ports[k], views)
			some.isolates = some.isolates || some.all[i].isolates
		}
		c.reasons.drafts[key] = some
	}
	return some
}

// draft returns what may be the cause of a direction.
func (c *comparison) draft(k int, d policy.Direction, ports Ports, views [2]*view) draft {
	here, there := views[k], views[1-k]
	more := c.m[k].cell(here.cell[d]).minus(c.m[1-k].cell(there.cell[d]))
	of := draft{likely: !more.Intersect(ports).Empty()}
	cause, byTier := c.tierCause(k, d, ports, [2][]decision{views[0].decides[d], views[1].decides[d]})
	if of.Cause = cause; byTier {
		return of
	}
	var open []Opened
	for _, p := range here.opens[d] {
		open = append(open, Opened{p.rule.Ref, c.m[k].fold.Sets[p.ports]})
	}
	names := policiesOf(open, ports)
	if of.isolates = !here.isolated[d] || len(names) == 0; !of.isolates {
		of.Cause = c.allows(k, d, names)
	}
	return of
}

// causes returns what a change between two workloads comes from.
func (c *comparison) causes(k int, drafts *drafts, pair [2]int) []Cause {
	var likely, all []Cause
	for _, of := range drafts.all {
		cause := of.Cause
		if of.isolates {
			cause = c.isolates(k, cause.Direction, podOf(cause.Direction, pair))
		}
		if len(cause.Policies)+len(cause.Rules) > 0 {
			all = append(all, cause)
		}
		if of.likely {
			likely = append(likely, cause)
		}
	}
	if likely == nil { // where policies treat the pods in several ways, neither direction may say it alone
		return all
	}
	return likely
}

// findSides numbers what isolates the workloads.
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
