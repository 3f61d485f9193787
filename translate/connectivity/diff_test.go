// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// TestCompare changes random clusters: the diff has exactly the connections gained and lost according to the cells,
// which TestCells compares with Explain, each with its cause. A cluster equals itself, also with its policies in
// another order.
func TestCompare(t *testing.T) {
	gained, lost := 0, 0
	forSeeds(t, func(seed uint64) error {
		if seed%32 == 31 {
			return nil
		}
		w := newWorld(seed)
		g := random.NewGenerator(random.Source(seed+1), random.SizeOf(seed))
		if len(w.cluster.ClusterPolicies) > 0 {
			g.AddTiers(new(policy.Cluster)) // for its events
		}
		unlimited := *w.cluster
		unlimited.OverLimit = nil // it is of the pods as they were
		old, changed := &unlimited, unlimited
		for range 6 {
			g.Event(&changed).ApplyTo(&changed)
		}
		reversed := *old
		reversed.Policies = slices.Clone(old.Policies)
		slices.Reverse(reversed.Policies)
		reversed.ClusterPolicies = slices.Clone(old.ClusterPolicies)
		slices.Reverse(reversed.ClusterPolicies)
		before, after := connectivity.New(old), connectivity.New(&changed)
		if d := connectivity.Compare(before, connectivity.New(&reversed)); len(d.Changes) > 0 || d.Added != nil {
			return fmt.Errorf("the same cluster differs: %+v", d.Changes)
		}
		d := connectivity.Compare(before, after)
		found, err := byPair(d)
		if err != nil {
			return err
		}
		if err := sameSummary(d, connectivity.Summarise(before, after)); err != nil {
			return err
		}
		for i, from := range d.Workloads {
			for j, to := range d.Workloads {
				a, b := cellOf(before, from, to), cellOf(after, from, to)
				for _, f := range w.services {
					has := func(p connectivity.Ports) bool { return p.Contains(f.Proto, f.DstPort) }
					key := [3]int{i, j, 1}
					want := has(b.Every) && !has(a.Every) || has(b.Some) && !has(a.Some)
					if has(found[key]) != want {
						return fmt.Errorf("%v -> %v %v: gained is %t, found %s", from, to, f, want, found[key])
					} else if want {
						gained++
					}
					key[2] = 0
					want = has(a.Every) && !has(b.Every) || has(a.Some) && !has(b.Some)
					if has(found[key]) != want {
						return fmt.Errorf("%v -> %v %v: lost is %t, found %s", from, to, f, want, found[key])
					} else if want {
						lost++
					}
				}
			}
		}
		return nil
	})
	t.Logf("%d answers gained, %d lost", gained, lost)
	if gained == 0 || lost == 0 {
		t.Error("nothing changed")
	}
}

// byPair returns the changes of a diff by pair of workloads, and 1 for what is gained. Each must have a cause.
func byPair(d *connectivity.Diff) (map[[3]int]connectivity.Ports, error) {
	found := make(map[[3]int]connectivity.Ports)
	for _, c := range d.Changes {
		if len(c.Causes) == 0 {
			return nil, fmt.Errorf("no cause: %+v", c)
		}
		kind := 0
		if c.Gained {
			kind = 1
		}
		for _, from := range c.From.Workloads {
			for _, to := range c.To.Workloads {
				key := [3]int{from, to, kind}
				if _, twice := found[key]; twice {
					return nil, fmt.Errorf("%v twice", key)
				}
				found[key] = c.Ports
			}
		}
	}
	return found, nil
}

// sameSummary: a diff without causes says the same, in no more rows.
func sameSummary(d, summary *connectivity.Diff) error {
	all := func(d *connectivity.Diff) map[string]bool {
		rows := make(map[string]bool)
		for _, c := range d.Changes {
			ends := func(s connectivity.Side) []string {
				if len(s.Networks) > 0 {
					return []string{s.Networks.String()}
				}
				var names []string
				for _, w := range s.Workloads {
					names = append(names, d.Name(w))
				}
				return names
			}
			for _, from := range ends(c.From) {
				for _, to := range ends(c.To) {
					rows[fmt.Sprint(c.Gained, from, "->", to, c.Ports)] = true
				}
			}
		}
		return rows
	}
	if want, got := all(d), all(summary); !maps.Equal(want, got) {
		return fmt.Errorf("in short: %v, want %v", got, want)
	}
	if len(summary.Changes) > len(d.Changes) {
		return fmt.Errorf("%d rows become %d", len(d.Changes), len(summary.Changes))
	}
	return nil
}

// cellOf returns the cell of two workloads by their names, an empty one if there are none.
func cellOf(m *connectivity.Matrix, from, to connectivity.Workload) connectivity.Cell {
	i, j := slices.Index(m.Workloads, from), slices.Index(m.Workloads, to)
	if i < 0 || j < 0 {
		return connectivity.Cell{}
	}
	return m.Cell(i, j)
}
