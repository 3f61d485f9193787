// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
)

// A curve is the cost of a new connection against one number.
type curve struct {
	id, title, x string
	at           []int
	quick        []int
	world        func(n int) *world
	note         string
}

func curves() []curve {
	return []curve{
		{"policies", "Policies on the pod", "policies on the pod", []int{1, 3, 10, 30, 100, 300, 1000},
			[]int{1, 100}, withPolicies,
			"Each policy allows a different client; the one in the middle allows the client that connects."},
		{"rules", "Rules in a policy", "rules of the policy", []int{1, 10, 100, 1000}, []int{1, 100}, withRules,
			"Each rule allows a different client on its own port; the one in the middle allows the client that " +
				"connects."},
		{"peers", "Peers of a rule", "pods that the rule allows", []int{10, 100, 1000, 10_000, 100_000},
			[]int{10, 10_000}, withPeers,
			"Up to 1,024 of the pods connect in turn."},
		{"blocks", "CIDRs of a rule", "CIDRs that the rule allows", []int{1, 10, 100, 1000, 5000},
			[]int{1, 1000}, withBlocks,
			"The blocks neither touch nor overlap; connections come from up to 1,024 of them in turn."},
		{"local", "Pods of the node", "pods of the node, each with its own policy", []int{1, 10, 50, 110, 250},
			[]int{1, 110}, withLocalPods, ""},
		{"outside", "Pods outside any policy", "pods of the cluster outside any policy",
			[]int{0, 1000, 10_000, 100_000}, []int{0, 10_000}, withOutsiders, ""},
		{"tiers", "ClusterNetworkPolicies on the pod", "policies of 25 rules in each tier",
			[]int{1, 3, 10, 30, 100, 300, 1000}, []int{1, 100}, withTiers,
			"No Admin rule matches; the Baseline rule that allows the connection is in the middle."},
		{"sequence", "A list that is checked rule by rule", "lines of the chain", []int{50, 500, 1000, 2500, 4800},
			[]int{50, 1000}, withSequence,
			"Each Admin rule has 25 peers, and none matches. A list takes this form when it exceeds its bounds."},
	}
}

// The names of the series of the packet path.
const (
	seriesNetpold = "netpold"
	seriesFree    = "netpold, pod without policy"
	seriesChains  = "a chain per policy"
	seriesAgain   = "conntrack alone again"
)

// effort is how much is measured.
type effort struct {
	rounds, slices, packets int // packets of a slice
}

func (b *bench) packetEffort() effort {
	if b.quick {
		return effort{rounds: 5, slices: 8, packets: 128}
	}
	return effort{rounds: 11, slices: 24, packets: 256}
}

// contender is one thing that a comparison measures. The others are compared with the first one.
type contender struct {
	series string
	space  *space
	load   load
}

// packetPath measures the cost of new connections.
func (b *bench) packetPath(ctx context.Context) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // no collection while packets are being measured
	for _, c := range curves() {
		at := c.at
		if b.quick {
			at = c.quick
		}
		m := figures.Measure{
			ID: "packet/" + c.id, Title: c.title, Note: c.note, X: c.x, Unit: "ns",
			Y: "added CPU time",
		}
		base := figures.Measure{ID: "packet/" + c.id + "/baseline", Title: c.title + ": conntrack alone", X: c.x,
			Y: "CPU time", Unit: "ns"}
		if err := b.packetCurve(ctx, c, at, &m, &base); err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		b.add(m)
		b.add(base)
		debug.FreeOSMemory()
	}
	return b.parts(ctx)
}

// packetCurve measures the worlds of a curve in turn, slice by slice, so that a slow minute of the machine affects all
// of them. It runs on its own thread, which ends in the last of the spaces.
func (b *bench) packetCurve(ctx context.Context, c curve, at []int, m, base *figures.Measure) error {
	return thread(func() error {
		var all []contender
		ends := make([]int, len(at)) // of each world's contenders among all
		defer func() {
			for _, c := range all {
				closeQuietly(c.space)
			}
		}()
		for i, n := range at {
			contenders, err := b.contenders(ctx, c.world(n))
			all = append(all, contenders...)
			if ends[i] = len(all); err != nil {
				return fmt.Errorf("%d: %w", n, err)
			}
		}
		costs, err := compare(ctx, all, b.packetEffort())
		if err != nil {
			return err
		}
		for i, begin := 0, 0; i < len(at); begin, i = ends[i], i+1 {
			x := float64(at[i])
			base.Add("conntrack alone", figures.NewPoint(x, costs[begin]))
			for k := begin + 1; k < ends[i]; k++ {
				m.Add(all[k].series, figures.NewPoint(x, minus(costs[k], costs[begin])))
			}
			b.progress("%-18s %6.0f: conntrack alone %s", m.ID, x, summary(m, figures.Median(costs[begin])))
		}
		return nil
	})
}

// contenders makes the spaces of a world: conntrack alone, netpold, a chain per policy, and conntrack alone once more,
// which shows the noise.
func (b *bench) contenders(ctx context.Context, w *world) ([]contender, error) {
	state := translate.New(nodeName, translate.Options{LogGroup: 86, TierBounds: w.bounds})
	if errs := state.Add(&w.Cluster); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	reference, err := chainPerPolicy(&w.Cluster)
	if err != nil {
		return nil, err
	}
	in, free := datagrams(w.clients, w.server), datagrams(w.clients, w.free)
	var list []contender
	for _, one := range []struct {
		series string
		load   load
		fill   func(*space) error
	}{
		{"", in, func(s *space) error { return s.loadText(baseline) }},
		{seriesNetpold, in, func(s *space) error {
			return errors.Join(s.loadText(baseline), s.loadTable(ctx, state.Complete()))
		}},
		{seriesChains, in, func(s *space) error { return s.loadText(baseline + "\n" + reference) }},
		{seriesAgain, in, func(s *space) error { return s.loadText(baseline) }},
	} {
		if one.series == seriesChains && len(w.ClusterPolicies) > 0 { // which has NetworkPolicies only
			continue
		}
		s, err := newSpace()
		if err != nil {
			return list, err
		}
		list = append(list, contender{one.series, s, one.load})
		if err := one.fill(s); err != nil {
			return list, err
		}
		if one.series == seriesNetpold {
			list = append(list, contender{seriesFree, s, free})
		}
	}
	return list, check(list, w)
}

// check makes sure that the measured connections are allowed, by tables that deny others.
func check(list []contender, w *world) error {
	stranger := datagrams([]netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1})}, w.server)
	for _, c := range list {
		ok, err := c.space.forwards(c.load)
		if err == nil && !ok {
			err = errors.New("a connection is not allowed")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.series, err)
		}
		denies := c.series == seriesNetpold || c.series == seriesChains
		ok, err = c.space.forwards(stranger)
		if err == nil && ok == denies && c.series != seriesFree {
			err = fmt.Errorf("a stranger's connection is allowed: %t", ok)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.series, err)
		}
	}
	return nil
}

// warming is how many packets are sent before each measured slice, because the previous contender has filled the
// processor's caches with its own data.
const warming = 32

// compare measures the contenders in turn, slice by slice, each time in another order. For each it returns the
// nanoseconds per packet in each round: the median of the round's slices.
func compare(ctx context.Context, list []contender, e effort) ([][]float64, error) {
	if err := pin(); err != nil {
		return nil, err
	}
	costs, random := make([][]float64, len(list)), rand.New(rand.NewPCG(1, 2))
	for round := range e.rounds + 1 {
		for _, c := range list {
			if err := c.space.begin(c.load); err != nil {
				return nil, err
			}
		}
		slices := make([][]float64, len(list))
		for range e.slices {
			for _, i := range random.Perm(len(list)) {
				c := list[i]
				_, warm := c.space.burst(c.load, warming)
				took, err := c.space.burst(c.load, e.packets)
				if err := errors.Join(warm, err); err != nil {
					return nil, err
				}
				slices[i] = append(slices[i], float64(took)/float64(e.packets))
			}
		}
		for i := range list {
			if round > 0 { // the first is to warm up
				costs[i] = append(costs[i], figures.Median(slices[i]))
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return costs, nil
}

// minus is a - b, round by round.
func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

// thread runs f on its own goroutine, whose thread ends with it.
func thread(f func() error) error {
	result := make(chan error)
	go func() { result <- f() }()
	return <-result
}

func closeQuietly(c io.Closer) { _ = c.Close() }
