// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/netpold/netpold/translate/connectivity/roster"
)

// Summarise is Compare without causes, in as few rows as possible.
func Summarise(before, after *Matrix) *Diff {
	return (&comparison{m: [2]*Matrix{before, after}}).compare().merged()
}

func (d *Diff) merged() *Diff {
	m := &Diff{Roster: d.Roster, Added: d.Added, Removed: d.Removed}
	g, outside := newChanges(), make(map[string]*Change)
	rows := make([]map[int][]int, len(d.Workloads)) // the targets of each kind
	for _, c := range d.Changes {
		if len(c.From.Networks)+len(c.To.Networks) > 0 {
			key := fmt.Sprint(c.Gained, c.Ports.Key(), c.From.Networks, c.To.Networks)
			if outside[key] == nil {
				outside[key] = &Change{Gained: c.Gained, Ports: c.Ports, From: Side{Networks: c.From.Networks},
					To: Side{Networks: c.To.Networks}}
			}
			o := outside[key]
			o.From.Workloads = append(o.From.Workloads, c.From.Workloads...)
			o.To.Workloads = append(o.To.Workloads, c.To.Workloads...)
			continue
		}
		kind := g.kind(Change{Gained: c.Gained, Ports: c.Ports})
		for _, from := range c.From.Workloads {
			if rows[from] == nil {
				rows[from] = make(map[int][]int)
			}
			rows[from][kind] = append(rows[from][kind], c.To.Workloads...)
		}
	}
	itself := make([][]int, len(d.Workloads))
	for from, row := range rows {
		itself[from] = []int{from}
		for kind, targets := range row {
			slices.Sort(targets)
			for _, to := range targets {
				g.Add(kind, to)
			}
		}
		g.EndRow(from)
	}
	m.Changes = g.merged(itself)
	for _, key := range slices.Sorted(maps.Keys(outside)) {
		slices.Sort(outside[key].From.Workloads)
		slices.Sort(outside[key].To.Workloads)
		m.Changes = append(m.Changes, *outside[key])
	}
	slices.SortStableFunc(m.Changes, func(a, b Change) int {
		return cmp.Or(roster.CompareSides(a.From, b.From), roster.CompareSides(a.To, b.To))
	})
	return m
}
