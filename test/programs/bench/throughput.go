// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
)

// throughput measures a TCP connection between two network namespaces through a third one, with and without the table
// there.
func (b *bench) throughput(ctx context.Context) error {
	ratio := figures.Measure{
		ID: "throughput", Title: "TCP throughput", X: "packets",
		Y: "relative to the throughput without a table", Unit: "×",
		Note: "One connection to a pod with one policy; sender and receiver run on the same machine.",
	}
	rate := figures.Measure{ID: "throughput/baseline", Title: "TCP throughput without a table", X: ratio.X,
		Y: "conntrack alone", Unit: "Gbit/s"}
	for _, unit := range []unit{segments, packets} {
		err := thread(func() error {
			rates, err := b.route(ctx, unit)
			if err != nil {
				return err
			}
			place := func(rounds []float64) figures.Point {
				p := figures.NewPoint(float64(unit), rounds)
				p.Label = unit.String()
				return p
			}
			rate.Add("conntrack alone", place(rates[0]))
			for i, mode := range modes()[1:] {
				ratio.Add(mode.series, place(rates[i+1]))
			}
			b.progress("throughput, %s: %.1f Gbit/s, of which %s", unit, figures.Median(rates[0]), summary(&ratio, 1))
			return nil
		})
		if err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
	}
	b.add(ratio)
	b.add(rate)
	return nil
}

// mode is the rules of a router.
type mode struct {
	series      string
	table       bool
	established frame.Established
}

func modes() []mode {
	return []mode{{series: ""}, {"keep", true, frame.Keep}, {"recheck", true, frame.Recheck},
		{series: seriesAgain}}
}

// route measures one route in all modes. For each round it returns the rate in Gbit/s in the first mode, and the other
// modes' share of it. It loads and removes the table on one route, as two routes are never equally fast.
func (b *bench) route(ctx context.Context, unit unit) ([][]float64, error) {
	r, err := newRoute(unit)
	if err != nil {
		return nil, err
	}
	defer closeQuietly(r)
	if err := r.router.loadText(baseline); err != nil {
		return nil, err
	}
	conn, err := kernel.Open(kernel.Config{Own: true})
	if err != nil {
		return nil, err
	}
	defer closeQuietly(conn)
	rounds, slices := 11, 20
	if b.quick {
		rounds, slices = 5, 4
	}
	rates := make([][]float64, len(modes()))
	for round := range rounds + 1 { // the first is to warm up
		got, err := r.round(ctx, conn, slices)
		if err != nil {
			return nil, err
		}
		for i := range rates {
			if round > 0 {
				rates[i] = append(rates[i], got[i])
			}
		}
	}
	return rates, nil
}

// round sends some slices in each mode; the modes take turns at being the first. A slice is compared with the others of
// its turn, since the machine's other load changes from turn to turn. It returns the medians.
func (r *route) round(ctx context.Context, conn *kernel.Conn, slices int) ([]float64, error) {
	const slice = 50 * time.Millisecond
	list := modes()
	samples := make([][]float64, len(list))
	rates := make([]float64, len(list)) // of the turn
	for turn := range slices {
		for i := range list {
			i = (i + turn) % len(list)
			if err := list[i].set(ctx, conn); err != nil {
				return nil, err
			}
			rate, err := r.send(slice)
			if err != nil {
				return nil, err
			}
			rates[i] = rate
		}
		samples[0] = append(samples[0], rates[0])
		for i := 1; i < len(rates); i++ {
			samples[i] = append(samples[i], rates[i]/rates[0])
		}
	}
	for i, s := range samples {
		rates[i] = figures.Median(s)
	}
	return rates, ctx.Err()
}

// set loads the table of the mode, or removes it.
func (m mode) set(ctx context.Context, conn *kernel.Conn) error {
	if !m.table {
		return conn.DeleteTable(ctx, frame.TableName)
	}
	client, server := routeEnds()
	w := newWorld()
	w.Pods[0].IPs = []netip.Addr{server}
	w.pod("other", "client")
	w.Pods[len(w.Pods)-1].IPs = []netip.Addr{client}
	w.policy("server", everyPort(pods("client")))
	state := translate.New(nodeName, translate.Options{LogGroup: 86, Established: m.established})
	if errs := state.Add(&w.Cluster); len(errs) > 0 {
		return errors.Join(errs...)
	}
	_, err := conn.Apply(ctx, state.Complete().Take())
	return err
}

// send sends for a while and returns the rate, in Gbit/s, up to the arrival of the last byte.
func (r *route) send(d time.Duration) (float64, error) {
	const last = 1 // the first byte of the last block
	sent := make(chan error, 1)
	begin := time.Now()
	go func() {
		block := make([]byte, 128<<10)
		for block[0] != last {
			if time.Since(begin) >= d {
				block[0] = last
			}
			if _, err := r.sender.Write(block); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	block := make([]byte, 128<<10)
	total := 0
	for block[0] != last {
		n, err := io.ReadFull(r.target, block)
		if err != nil {
			return 0, errors.Join(err, r.sender.Close())
		}
		total += n
	}
	took := time.Since(begin)
	return float64(total) * 8 / float64(took.Nanoseconds()), <-sent
}
