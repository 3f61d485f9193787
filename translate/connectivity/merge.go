// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Merged returns the changes in as few rows as can be, without their causes: for who knows these.
func (d *Diff) Merged() *Diff {
	m := &Diff{Roster: d.Roster, Added: d.Added, Removed: d.Removed}
	groups, outside := make(map[string]*grouped), make(map[string]*Change)
	itself := make(map[int][]int)
	for w := range d.Workloads {
		itself[w] = []int{w}
	}
	for _, c := range d.Changes {
		if len(c.From.Networks)+len(c.To.Networks) > 0 {
			key := fmt.Sprint(c.Gained, c.Ports.key(), c.From.Networks, c.To.Networks)
			if outside[key] == nil {
				outside[key] = &Change{Gained: c.Gained, Ports: c.Ports, From: Side{Networks: c.From.Networks},
					To: Side{Networks: c.To.Networks}}
			}
			o := outside[key]
			o.From.Workloads = append(o.From.Workloads, c.From.Workloads...)
			o.To.Workloads = append(o.To.Workloads, c.To.Workloads...)
			continue
		}
		g := group(groups, Change{Gained: c.Gained, Ports: c.Ports})
		for _, from := range c.From.Workloads {
			g.to[from] = append(g.to[from], c.To.Workloads...)
		}
	}
	m.Changes = merged(groups, itself)
	for _, key := range slices.Sorted(maps.Keys(outside)) {
		slices.Sort(outside[key].From.Workloads)
		slices.Sort(outside[key].To.Workloads)
		m.Changes = append(m.Changes, *outside[key])
	}
	slices.SortStableFunc(m.Changes, func(a, b Change) int {
		return cmp.Or(compareSides(a.From, b.From), compareSides(a.To, b.To))
	})
	return m
}
