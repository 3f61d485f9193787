// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/netpold/netpold/test/harness/figures"
)

// goal is a limit for a figure, and how to find the figure.
type goal struct {
	figure, goal string
	limit        float64 // in unit
	least        bool    // the limit is a minimum, otherwise a maximum
	unit         string
	measured     func(*figures.Report) (figures.Point, bool)
	why          string // the goal is missed, if it is
}

func (g goal) text(p figures.Point) string {
	if g.unit == "" {
		return spread(&p)
	}
	return spread(&p) + " " + g.unit
}

// Series that goals refer to.
const (
	netpold = "netpold"
	free    = "netpold, pod without policy"

	oneChain = "one base chain"
	observed = "one base chain, with flows counted"
)

func goals() []goal {
	return slices.Concat(connectionGoals(), eventGoals(), memoryGoals(), otherGoals())
}

// connectionGoals are the goals for a new connection.
func connectionGoals() []goal {
	return []goal{
		{
			figure: "new connection, 1 policy on the pod", goal: "≤ 0.5 µs above conntrack alone",
			limit: 0.5, unit: "µs",
			measured: inThousands(one("packet/policies", netpold, 1)),
			why:      "most of it comes before any policy, see [What the cost is made of](#what-the-cost-is-made-of)",
		},
		{
			figure: "the same", goal: "≤ 0.25 µs above a pod no policy selects", limit: 0.25, unit: "µs",
			measured: inThousands(minus(one("packet/policies", netpold, 1), one("packet/policies", free, 1))),
		},
		{
			figure: "1,000 policies on the pod / 1 policy", goal: "≤ 1.1 ×", limit: 1.1, unit: "×",
			measured: ratio(one("packet/policies", netpold, 1000), one("packet/policies", netpold, 1)),
		},
		{
			figure: "1,000 ClusterNetworkPolicies in each tier / 1", goal: "≤ 1.2 ×", limit: 1.2, unit: "×",
			measured: ratio(one("packet/tiers", netpold, 1000), one("packet/tiers", netpold, 1)),
		},
		{
			figure: "new connection with flows counted", goal: "≤ 0.3 µs above the same without", limit: 0.3,
			unit:     "µs",
			measured: inThousands(minus(one("packet/forms", observed, 1), one("packet/forms", oneChain, 1))),
			why:      "see [The form of the table](#the-form-of-the-table)",
		},
	}
}

// eventGoals are the goals for events and the start.
func eventGoals() []goal {
	return []goal{
		{
			figure: "pod event → kernel at 100k pods, 10k policies, p50", goal: "≤ 0.3 ms", limit: 0.3, unit: "ms",
			measured: one("control/pod", "10,000 policies, p50", 100_000),
		},
		{
			figure: "the same, p99", goal: "≤ 5 ms", limit: 5, unit: "ms",
			measured: one("control/pod", "10,000 policies, p99", 100_000),
		},
		{
			figure: "500 pod events/s at 100k pods, 10k policies", goal: "≤ 10 % of a core", limit: 10, unit: "%",
			measured: one("memory/cpu", "10,000 policies", 100_000),
			why: "most of it goes into receiving and decoding the events, see [irrelevant " +
				"updates](#cpu-at-500-irrelevant-pod-updates-a-second)",
		},
		{
			figure: "caches synced → enforced, 100k pods, 10k policies", goal: "≤ 1 s", limit: 1, unit: "s",
			measured: inThousands(one("control/start", "10,000 policies", 100_000)),
		},
	}
}

// memoryGoals are the goals for memory and shared sets.
func memoryGoals() []goal {
	return []goal{
		{
			figure: "RSS at 100k pods, 10k policies", goal: "≤ 150 MiB", limit: 150, unit: "MiB",
			measured: one("memory/rss", "10,000 policies", 100_000),
		},
		{
			figure: "RSS at 1k pods, 100 policies", goal: "≤ 30 MiB", limit: 30, unit: "MiB",
			measured: one("memory/rss", "100 policies", 1000),
		},
		{
			figure: "30 isolations with `namespaceSelector: {}`, 150k pods: sets", goal: "one, shared", limit: 1,
			measured: one("memory/shared/sets", "sets", 0),
		},
		{
			figure: "the same, kernel memory", goal: "≤ 15 MiB", limit: 15, unit: "MiB",
			measured: one("memory/shared", "MiB", 0),
		},
	}
}

// otherGoals are the goals for a relabel, the binary and an established connection.
func otherGoals() []goal {
	return []goal{
		{
			figure: "namespace relabel flipping 10,000 pods: transactions", goal: "one", limit: 1,
			measured: one("control/relabel/transactions", netpold, 0),
			why: "a new set is filled before a rule refers to it, so that other writers do not wait; packets meet " +
				"the whole change in the last one",
		},
		{
			figure: "the same, time", goal: "≤ 100 ms", limit: 100, unit: "ms",
			measured: one("control/relabel", "pods come in", 0),
		},
		{
			figure: "the same, pods selected by label as well", goal: "≤ 100 ms", limit: 100, unit: "ms",
			measured: one("control/relabel", "pods come in", 1),
		},
		{
			figure: "static binary, stripped", goal: "≤ 40 MiB", limit: 40, unit: "MiB",
			measured: one("memory/binary", netpold, 0),
		},
		{
			figure: "established TCP throughput", goal: "≥ 0.99 × without table", limit: 0.99, least: true, unit: "×",
			measured: one("throughput", "keep", 0),
			why: "if \"conntrack alone again\" spreads as widely, see [TCP throughput](#tcp-throughput), the machine " +
				"is too busy to tell",
		},
	}
}

// finder finds a figure in a report.
type finder = func(*figures.Report) (figures.Point, bool)

// one finds a point.
func one(id, name string, x float64) finder {
	return func(r *figures.Report) (figures.Point, bool) {
		if p := r.Point(id, name, x); p != nil {
			return *p, true
		}
		return figures.Point{}, false
	}
}

// inThousands finds a figure in a unit a thousand times as large.
func inThousands(f finder) finder {
	return func(r *figures.Report) (figures.Point, bool) {
		p, ok := f(r)
		return each(p, func(_ int, v float64) float64 { return v / 1000 }), ok
	}
}

// minus finds the difference of two figures of the same rounds.
func minus(a, b finder) finder {
	return pair(a, b, func(v, w float64) float64 { return v - w })
}

// ratio finds the ratio of two figures: of the medians, and round by round.
func ratio(a, b finder) finder {
	return pair(a, b, func(v, w float64) float64 { return v / w })
}

func pair(a, b finder, f func(v, w float64) float64) finder {
	return func(r *figures.Report) (figures.Point, bool) {
		p, ok := a(r)
		q, also := b(r)
		if !ok || !also {
			return figures.Point{}, false
		}
		out := each(p, func(i int, v float64) float64 { return f(v, q.Rounds[min(i, len(q.Rounds)-1)]) })
		out.Median = f(p.Median, q.Median)
		return out, true
	}
}

// each changes every round of a point.
func each(p figures.Point, f func(i int, v float64) float64) figures.Point {
	if len(p.Rounds) == 0 {
		return p
	}
	rounds := make([]float64, len(p.Rounds))
	for i, v := range p.Rounds {
		rounds[i] = f(i, v)
	}
	return figures.NewPoint(0, rounds)
}
