// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/connectivity/roster"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Diff is what became possible and impossible between two clusters. Policies are compared by meaning, not by text.
type Diff struct {
	Roster        // of both clusters
	Added   []int // workloads that only the new cluster has
	Removed []int // that only the old one has
	Changes []Change

	Audited [2][]types.NamespacedName // audited policies of the old and the new cluster, which do not count, sorted
}

// Change is what each of From may connect to on each of To in one cluster and not in the other.
type Change struct {
	Gained   bool // since the old cluster; otherwise lost
	From, To Side
	Ports    Ports // between all pods, or only some
	Causes   []Cause
}

// Cause is the reason for a change.
type Cause struct {
	Direction policy.Direction
	Policies  []types.NamespacedName  // sorted; none if a workload is new or gone
	Rules     []policy.ClusterRuleRef // of ClusterNetworkPolicies, instead of Policies
	Effect    Effect
}

// Effect is how policies cause a change.
type Effect uint8

// The effects.
const (
	Allows       Effect = iota // they allow it now
	Isolates                   // they isolate the pods now, and none did
	Allowed                    // they allowed it
	Isolated                   // they isolated the pods, and none does
	Denies                     // they deny it now
	Denied                     // they denied it
	WorkloadNew                // the workload did not exist
	WorkloadGone               // the workload no longer exists
)

// String describes the cause for an operator.
func (c Cause) String() string {
	names := make([]string, len(c.Policies))
	for i, n := range c.Policies {
		names[i] = n.String()
	}
	for _, r := range c.Rules {
		names = append(names, r.String())
	}
	list := strings.Join(names, ", ")
	switch c.Effect {
	case WorkloadNew:
		return "a workload is new"
	case WorkloadGone:
		return "a workload is gone"
	case Allows:
		return fmt.Sprintf("%s: allowed by %s", c.Direction, list)
	case Isolates:
		return fmt.Sprintf("%s: isolated by %s", c.Direction, list)
	case Denies:
		return fmt.Sprintf("%s: denied by %s", c.Direction, list)
	case Denied:
		return fmt.Sprintf("%s: was denied by %s", c.Direction, list)
	case Allowed:
		return fmt.Sprintf("%s: was allowed by %s", c.Direction, list)
	}
	return fmt.Sprintf("%s: was isolated by %s", c.Direction, list)
}

// comparison compares two matrices; in pairs, the old one comes first.
type comparison struct {
	Diff
	m  [2]*Matrix
	at [2][]int // the index of each workload in either matrix; -1 if not there

	same     map[types.NamespacedName]bool // nil: causes are not wanted
	sameTier map[string]bool

	changed map[[4]sets.PortsID]change
	portIDs map[string]int
	sides   [2][2][]int // of the workloads, by direction and cluster: see sidesOf; -1 if it is missing
	reasons reasons
	targets []target // of the row
}

// change is what is in a cell of the old cluster alone, and of the new one; each set of ports has a number.
type change struct {
	ports [2]Ports
	id    [2]int32 // 0 for none
}

// Compare returns how who may talk to whom differs between an old and a new cluster. [Matrix.Err] of either says
// whether that was too much.
func Compare(before, after *Matrix) *Diff {
	c := &comparison{m: [2]*Matrix{before, after}}
	old, changed := before.cluster, after.cluster
	c.same = sameText(old.Policies, changed.Policies, nameOf, func(was, is *networkingv1.NetworkPolicy) bool {
		return equality.Semantic.DeepEqual(was.Spec, is.Spec) && old.Audited(was) == changed.Audited(is)
	})
	c.sameTier = sameText(old.ClusterPolicies, changed.ClusterPolicies,
		func(p policy.ClusterPolicy) string { return p.Name }, func(was, is policy.ClusterPolicy) bool {
			return equality.Semantic.DeepEqual([]any{was.Spec, was.Unread}, []any{is.Spec, is.Unread}) &&
				old.AuditedInTier(was) == changed.AuditedInTier(is)
		})
	c.Audited = [2][]types.NamespacedName{before.Audited(), after.Audited()}
	return c.compare()
}

// Summarise is Compare without causes and audited policies, in as few rows as possible.
func Summarise(before, after *Matrix) *Diff {
	return (&comparison{m: [2]*Matrix{before, after}}).compare()
}

func (c *comparison) compare() *Diff {
	c.changed, c.portIDs = make(map[[4]sets.PortsID]change), make(map[string]int)
	c.reasons.kinds = make(map[kindKey]int)
	c.enroll()
	c.findSides()
	alike := c.alike()
	g := newChanges()
	for _, from := range c.rows(alike) {
		c.row(g, from[0], alike)
		if g.EndRow(from...); g.Full() || c.m[0].fold.Full() || c.m[1].fold.Full() {
			break
		}
	}
	c.reasons = reasons{} // before the changes are written at length
	c.Changes = g.merged(alike)
	c.m[1].full = g.Full()
	for _, d := range policy.Directions() {
		c.outside(d)
	}
	slices.SortStableFunc(c.Changes, func(a, b Change) int {
		return cmp.Or(roster.CompareSides(a.From, b.From), roster.CompareSides(a.To, b.To))
	})
	return &c.Diff
}

// sameText returns the names of policies that are equal in both clusters.
func sameText[K comparable, P any](before, after []P, name func(P) K, equal func(was, is P) bool) map[K]bool {
	old := make(map[K]P)
	for _, p := range before {
		old[name(p)] = p
	}
	same := make(map[K]bool)
	for _, p := range after {
		was, known := old[name(p)]
		same[name(p)] = known && equal(was, p)
	}
	return same
}

func nameOf(np *networkingv1.NetworkPolicy) types.NamespacedName {
	return types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
}

// enroll lists the workloads of both clusters.
func (c *comparison) enroll() {
	c.Families = make(map[sets.Family]bool)
	host := make(map[Workload]bool)
	var index [2]map[Workload]int
	for k, m := range c.m {
		index[k] = make(map[Workload]int)
		for i, w := range m.Workloads {
			index[k][w], host[w] = i, m.Host[i]
		}
		maps.Copy(c.Families, m.Families)
	}
	c.Workloads = slices.SortedFunc(maps.Keys(host), roster.CompareWorkloads)
	for i, w := range c.Workloads {
		c.Host = append(c.Host, host[w])
		for k := range c.m {
			number, known := index[k][w]
			if !known {
				number = -1
			}
			c.at[k] = append(c.at[k], number)
		}
		switch {
		case c.at[0][i] < 0:
			c.Added = append(c.Added, i)
		case c.at[1][i] < 0:
			c.Removed = append(c.Removed, i)
		}
	}
}

// alike returns groups of workloads that are equal in both clusters, in the order of each group's first.
func (c *comparison) alike() [][]int {
	ids := make(map[[2]int]int)
	var all [][]int
	for w := range c.Workloads {
		n := sets.Number(ids, [2]int{c.profile(0, w), c.profile(1, w)}, func() { all = append(all, nil) })
		all[n] = append(all[n], w)
	}
	return all
}

// profile returns the profile of a workload in cluster k; -1 if it is not there.
func (c *comparison) profile(k, w int) int {
	if i := c.at[k][w]; i >= 0 {
		return c.m[k].profile[i]
	}
	return -1
}

// rows returns which groups of equal workloads have equal rows in both clusters.
func (c *comparison) rows(alike [][]int) [][]int {
	ids := make(map[[2]int]int)
	of := make([]int, len(alike))
	for i, some := range alike {
		rows := [2]int{-1, -1}
		for k, m := range c.m {
			if p := c.profile(k, some[0]); p >= 0 {
				rows[k] = m.rowOf[p]
			}
		}
		of[i] = sets.Number(ids, rows, func() {})
	}
	return sets.Groups(of)
}

// target is a group of equal workloads to which something changes.
type target struct {
	of     int // their number
	change change
}

// row notes what changes between the i-th group of equal workloads and each other group.
func (c *comparison) row(g *changes, i int, alike [][]int) {
	from := alike[i][0]
	var rows [2][]cellID
	for k, m := range c.m {
		if p := c.profile(k, from); p >= 0 {
			rows[k] = m.row(p)
		}
	}
	c.targets = c.targets[:0]
	var last [2]cellID
	var change change // of last
	for j := range alike {
		var cells [2]cellID
		for k := range c.m {
			if p := c.profile(k, alike[j][0]); p >= 0 && rows[k] != nil {
				cells[k] = rows[k][p]
			}
		}
		if cells != last {
			last, change = cells, c.change(cells)
		}
		if change.id != [2]int32{} {
			c.targets = append(c.targets, target{j, change})
		}
	}
	c.explain(g, from, alike)
}

// change returns what is in the first cell and not in the second, and the reverse.
func (c *comparison) change(cells [2]cellID) change {
	key := [4]sets.PortsID{cells[0].every, cells[0].some, cells[1].every, cells[1].some}
	of, known := c.changed[key]
	if !known {
		a, b := c.m[0].cell(cells[0]), c.m[1].cell(cells[1])
		of.ports = [2]Ports{a.minus(b), b.minus(a)}
		for k, ports := range of.ports {
			if !ports.Empty() {
				of.id[k] = int32(1 + sets.Number(c.portIDs, ports.Key(), func() {}))
			}
		}
		c.changed[key] = of
	}
	return of
}

// minus returns what is open between more pods than in o.
func (c Cell) minus(o Cell) Ports { return c.Every.Minus(o.Every).Union(c.Some.Minus(o.Some)) }

// missing returns the cause, if causes are wanted, if any of some workloads is in cluster k alone.
func (c *comparison) missing(k int, workloads ...int) []Cause {
	if c.same != nil && slices.ContainsFunc(workloads, func(w int) bool { return c.at[1-k][w] < 0 }) {
		return []Cause{{Effect: []Effect{WorkloadGone, WorkloadNew}[k]}}
	}
	return nil
}

// allows returns the cause that policies of cluster k allow something.
func (c *comparison) allows(k int, d policy.Direction, names []types.NamespacedName) Cause {
	return Cause{Direction: d, Policies: c.suspects(names), Effect: []Effect{Allowed, Allows}[k]}
}

// isolates returns the cause that the policies of the other cluster isolate the pods of a workload.
func (c *comparison) isolates(k int, d policy.Direction, pod int) Cause {
	names, _ := c.m[1-k].IsolatedBy(d, c.at[1-k][pod])
	return Cause{Direction: d, Policies: c.suspects(names), Effect: []Effect{Isolates, Isolated}[k]}
}

// suspects returns the policies that differ between the clusters, or all if none does: then labels have changed.
func (c *comparison) suspects(names []types.NamespacedName) []types.NamespacedName {
	changed := slices.DeleteFunc(slices.Clone(names), func(n types.NamespacedName) bool { return c.same[n] })
	if len(changed) == 0 {
		return names
	}
	return changed
}

// changes gathers the changes between workloads; changes that differ only in their sides share a kind.
type changes struct {
	*sets.Bundles[int]
	kindsOf []Change
	ids     map[string]int
}

func newChanges() *changes {
	return &changes{Bundles: sets.NewBundles[int](), ids: make(map[string]int)}
}

// kind returns the number of a change without its sides.
func (g *changes) kind(c Change) int {
	key := fmt.Sprint(c.Gained, c.Ports.Key(), c.Causes)
	return sets.Number(g.ids, key, func() { g.kindsOf = append(g.kindsOf, c) })
}

// merged returns the changes between workloads, given the workloads that each number stands for. Changes of a kind that
// lead to the same workloads are merged.
func (g *changes) merged(alike [][]int) []Change {
	rank := make([]int, len(g.ids))
	for i, key := range slices.Sorted(maps.Keys(g.ids)) {
		rank[g.ids[key]] = i
	}
	bundles := g.Expand(alike)
	slices.SortFunc(bundles, func(a, b sets.Bundle[int]) int { return cmp.Compare(rank[a.Kind], rank[b.Kind]) })
	all := make([]Change, len(bundles))
	for i, b := range bundles {
		all[i] = g.kindsOf[b.Kind]
		all[i].From.Workloads, all[i].To.Workloads = b.From, b.To
	}
	return all
}

// outside adds what changes between workloads and outside networks, which is equal for workloads of equal sides.
func (c *comparison) outside(d policy.Direction) {
	byKey := make(map[string]*Change)
	known := make(map[[2]int][]*Change) // by sides
	var order []*Change
	for w := range c.Workloads {
		sides := [2]int{c.sides[d][0][w], c.sides[d][1][w]}
		if _, done := known[sides]; !done {
			known[sides] = nil
			for _, of := range c.changesOutside(d, w) {
				key := fmt.Sprint(of.Gained, of.Ports.Key(), of.To.Networks, of.Causes)
				if byKey[key] == nil {
					byKey[key], order = &of, append(order, &of)
				}
				known[sides] = append(known[sides], byKey[key])
			}
		}
		for _, change := range known[sides] {
			change.From.Workloads = append(change.From.Workloads, w)
		}
	}
	for _, change := range order {
		if d == policy.Ingress {
			change.From, change.To = change.To, change.From
		}
		c.Changes = append(c.Changes, *change)
	}
}

// changesOutside returns what is lost, then what is gained, between a workload and outside addresses, without the
// workload: a change for each set of ports.
func (c *comparison) changesOutside(d policy.Direction, w int) []Change {
	var all []Change
	at := make(map[[2]int32]int) // by cluster and ports
	for _, f := range sets.Families() {
		var reaches [2][]reach
		begins := []netip.Addr{sets.WholeFamily(f).First}
		for k, m := range c.m {
			if c.at[k][w] < 0 {
				continue
			}
			reaches[k] = m.outsideOf(d, m.members[c.at[k][w]], f)
			for _, r := range reaches[k] {
				begins = append(begins, r.First)
			}
		}
		for _, span := range sets.CutAt(f, begins) {
			of := c.change([2]cellID{cellAt(reaches[0], span), cellAt(reaches[1], span)})
			for k, id := range of.id {
				if id > 0 {
					n := sets.Number(at, [2]int32{int32(k), id}, func() {
						all = append(all, Change{Gained: k == 1, Ports: of.ports[k]})
					})
					all[n].To.Networks = append(all[n].To.Networks, span)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(clusterOf(a), clusterOf(b)), cmp.Compare(a.Ports.Key(), b.Ports.Key()))
	})
	for i := range all {
		all[i].To.Networks = sets.Union(all[i].To.Networks...)
		all[i].Causes = c.causesOutside(d, w, all[i])
	}
	return all
}

// clusterOf returns which cluster opens what changes.
func clusterOf(c Change) int {
	if c.Gained {
		return 1
	}
	return 0
}

// causesOutside returns why a change between a workload and networks is.
func (c *comparison) causesOutside(d policy.Direction, w int, of Change) []Cause {
	k := clusterOf(of)
	if causes := c.missing(k, w); causes != nil || c.same == nil {
		return causes
	}
	if cause, byTier := c.tierCause(k, d, of.Ports, c.decideOutside(d, w, of.To.Networks)); byTier {
		return []Cause{cause}
	}
	var open []Opened
	m, own := c.m[k], c.at[k][w]
	for _, member := range m.members[own] {
		open = append(open, m.opened(d, member.class, m.toAny(d, member.class, of.To.Networks.Meets))...)
	}
	names := policiesOf(open, of.Ports)
	if _, isolated := m.IsolatedBy(d, own); !isolated || len(names) == 0 {
		return []Cause{c.isolates(k, d, w)}
	}
	return []Cause{c.allows(k, d, names)}
}
