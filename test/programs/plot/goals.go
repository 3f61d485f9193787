// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// goal is what a figure was to be, and how to find what it is.
type goal struct {
	figure, goal string
	limit        float64 // in unit
	least        bool    // the figure is to be no less; otherwise no more
	unit         string
	measured     func(*report) (point, bool)
	why          string // it is missed, if it is
}

func (g goal) text(p point) string {
	if g.unit == "" {
		return p.String()
	}
	return p.String() + " " + g.unit
}

// The names of series that goals are about.
const (
	netpold = "netpold"
	free    = "netpold, pod without policy"

	oneChain = "one base chain"
	observed = "one base chain, with flows counted"
)

func goals() []goal {
	return slices.Concat(connectionGoals(), eventGoals(), memoryGoals(), otherGoals())
}

// connectionGoals are those of a new connection.
func connectionGoals() []goal {
	return []goal{
		{
			figure: "new connection, 1 policy on the pod", goal: "≤ 0.5 µs above conntrack alone",
			limit: 0.5, unit: "µs",
			measured: inThousands(one("packet/policies", netpold, 1)),
			why:      "most of it comes before any policy, see [What it is made of](#what-it-is-made-of)",
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

// eventGoals are those of events and of the start.
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
			why: "most of it is to receive and decode the events, see [events that no policy has to do " +
				"with](#cpu-at-500-pod-updates-a-second-that-no-policy-has-to-do-with)",
		},
		{
			figure: "caches synced → enforced, 100k pods, 10k policies", goal: "≤ 1 s", limit: 1, unit: "s",
			measured: inThousands(one("control/start", "10,000 policies", 100_000)),
		},
	}
}

// memoryGoals are those of memory, and of sets that are shared.
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

// otherGoals are those of a relabel, the binary and an established connection.
func otherGoals() []goal {
	return []goal{
		{
			figure: "namespace relabel flipping 10,000 pods: transactions", goal: "one", limit: 1,
			measured: one("control/relabel/transactions", netpold, 0),
			why: "a new set is filled before a rule looks it up, so that other writers are not held up; packets " +
				"meet the change in the last one, whole",
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
			why: "a machine on which \"the same again\" spreads as widely, see [TCP " +
				"throughput](#tcp-throughput), is too busy to tell",
		},
	}
}

// finder finds a figure in a report.
type finder = func(*report) (point, bool)

// one finds a point.
func one(id, name string, x float64) finder {
	return func(r *report) (point, bool) {
		if p := r.point(id, name, x); p != nil {
			return *p, true
		}
		return point{}, false
	}
}

// inThousands finds a figure in a unit a thousand times as large.
func inThousands(f finder) finder {
	return func(r *report) (point, bool) {
		p, ok := f(r)
		return p.each(func(_ int, v float64) float64 { return v / 1000 }), ok
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
	return func(r *report) (point, bool) {
		p, ok := a(r)
		q, also := b(r)
		if !ok || !also {
			return point{}, false
		}
		out := p.each(func(i int, v float64) float64 { return f(v, q.Rounds[min(i, len(q.Rounds)-1)]) })
		out.Median = f(p.Median, q.Median)
		return out, true
	}
}

// each changes every round of a point.
func (p point) each(f func(i int, v float64) float64) point {
	if len(p.Rounds) == 0 {
		return p
	}
	var out point
	for i, v := range p.Rounds {
		out.Rounds = append(out.Rounds, f(i, v))
	}
	out.summarise()
	return out
}
