// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
)

// exchange returns the loads of one established flow: its original direction, and the replies.
func exchange(client netip.Addr, server netip.AddrPort) (original, reply load) {
	from := netip.AddrPortFrom(client, 40000)
	there, back := prober.UDP(from, server, []byte("question")), prober.UDP(server, from, []byte("answer"))
	opening := [][]byte{there, back, there, back}
	return load{packets: [][]byte{there}, opening: opening}, load{packets: [][]byte{back}, opening: opening}
}

// established measures what the packets of established connections cost.
func (b *bench) established(ctx context.Context) error {
	m := figures.Measure{
		ID: "established", Title: "Packets of an established connection", X: "policies on the pod",
		Y: "added CPU time", Unit: "ns",
		Note: "With --established=recheck, packets of the original direction are checked against the current " +
			"policies; replies pass as with keep.",
	}
	base := figures.Measure{ID: "established/baseline", Title: m.Title + ": conntrack alone", X: m.X, Y: "CPU time",
		Unit: "ns"}
	at := []int{1, 100, 1000}
	if b.quick {
		at = []int{1}
	}
	for _, n := range at {
		err := thread(func() error {
			list, err := establishedContenders(ctx, withPolicies(n))
			for _, c := range list {
				defer closeQuietly(c.space)
			}
			if err != nil {
				return err
			}
			costs, err := compare(ctx, list, b.packetEffort())
			if err != nil {
				return err
			}
			base.Add("conntrack alone", figures.NewPoint(float64(n), costs[0]))
			for i, c := range list[1:] {
				m.Add(c.series, figures.NewPoint(float64(n), minus(costs[i+1], costs[0])))
			}
			b.progress("%-18s %6d: conntrack alone %s", m.ID, n, summary(&m, figures.Median(costs[0])))
			return nil
		})
		if err != nil {
			return fmt.Errorf("established connection, %d policies: %w", n, err)
		}
	}
	b.add(m)
	b.add(base)
	return nil
}

// establishedContenders makes the spaces: conntrack alone, and netpold in either mode.
func establishedContenders(ctx context.Context, w *world) ([]contender, error) {
	original, reply := exchange(w.clients[0], w.server)
	var list []contender
	open := func(fill func(*space) error, contenders ...contender) error {
		s, err := newSpace()
		if err != nil {
			return err
		}
		for i := range contenders {
			contenders[i].space = s
		}
		list = append(list, contenders...)
		return errors.Join(s.loadText(baseline), fill(s))
	}
	netpold := func(mode frame.Established) func(*space) error {
		return func(s *space) error {
			state := translate.New(nodeName, translate.Options{LogGroup: 86, Established: mode})
			return errors.Join(errors.Join(state.Add(&w.Cluster)...), s.loadTable(ctx, state.Complete()))
		}
	}
	nothing := func(*space) error { return nil }
	err := open(nothing, contender{load: original})
	if err == nil {
		err = open(netpold(frame.Keep), contender{series: "keep", load: original})
	}
	if err == nil {
		err = open(netpold(frame.Recheck), contender{series: "recheck, original direction", load: original})
	}
	if err == nil {
		err = open(netpold(frame.Recheck), contender{series: "recheck, replies", load: reply})
	}
	if err == nil {
		err = open(nothing, contender{series: seriesAgain, load: original})
	}
	return list, err
}
