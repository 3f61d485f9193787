// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/guard"
)

// The forms of the table that are compared.
const (
	oneBase  = "one base chain"
	twoBases = "a base chain for each direction"
	guarded  = "one base chain, with the guard"
	observed = "one base chain, with flows counted"
	looked   = "one base chain, with flows counted, pods by address"
	alone    = "conntrack alone, compared with the third packet"
)

// Patterns of a table's text: the chains that a packet's way begins with, and what sends it from one to the other.
const (
	wayBlocks   = `(?s)\n\tchain (forward|input|ingress) \{.*?\n\t\}\n`
	wayToSecond = `goto ingress(\n|,| \})`
)

// wayOfTwo is the beginning of a packet's way as netpold 0.1 wrote it.
const wayOfTwo = `
	chain forward-egress {
		type filter hook forward priority filter - 1; policy accept;
		ct state established,related accept
		ip saddr vmap @egress-pods-4
		ip6 saddr vmap @egress-pods-6
	}

	chain forward-ingress {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ip daddr vmap @ingress-pods-4
		ip6 daddr vmap @ingress-pods-6
	}
`

// inTwo returns the text of a table as it was: a base chain for each direction in place of the one for both, and sets
// without a size, which the kernel keeps in a hash table that grows.
func inTwo(text string) string {
	text = regexp.MustCompile(wayBlocks).ReplaceAllString(text, "")
	text = regexp.MustCompile(wayToSecond).ReplaceAllString(text, "accept$1")
	text = strings.ReplaceAll(text, "\t\tsize 8192\n", "")
	return strings.TrimSuffix(text, "}\n") + wayOfTwo + "}\n"
}

// forms compares the table with its old form, loaded as text, with the guard of unknown pods, and with flows counted.
func (b *bench) forms(ctx context.Context) error {
	return thread(func() error {
		w := withPolicies(1)
		spaces, err := formSpaces(ctx, w)
		for _, s := range spaces {
			defer closeQuietly(s)
		}
		if err != nil {
			return err
		}
		list := formContenders(w, spaces)
		costs, err := compare(ctx, list, b.packetEffort())
		if err != nil {
			return err
		}
		m := figures.Measure{ID: "packet/forms", Title: "The form of the table", X: "packet", Y: "added CPU time",
			Unit: "ns", Note: "The last column is what the packet itself costs, above or below the third one, which " +
				"is the noise in the first and third row."}
		ratios := figures.Measure{ID: "packet/forms/ratio", Title: m.Title + ": ratio", X: m.X,
			Y: "one base chain / two", Unit: "×"}
		for i := 1; i < len(list); i += len(spaces) { // conntrack alone with the load, then the forms
			x := float64(i / len(spaces))
			for k, series := range []string{oneBase, twoBases, guarded, observed, looked} {
				p := figures.NewPoint(x, minus(costs[i+1+k], costs[i]))
				p.Label = list[i].series
				m.Add(series, p)
			}
			p := figures.NewPoint(x, minus(costs[i], costs[0]))
			p.Label = list[i].series
			m.Add(alone, p)
			one, two := minus(costs[i+1], costs[i]), minus(costs[i+2], costs[i])
			r := figures.NewPoint(x, each(one, two, func(a, b float64) float64 { return a / b }))
			r.Label = list[i].series
			ratios.Add(oneBase, r)
			b.progress("%s: %s: %.0f ns, was %.0f, with flows counted %.0f more, %.0f by address", m.ID, r.Label,
				figures.Median(one), figures.Median(two), figures.Median(minus(costs[i+4], costs[i+1])),
				figures.Median(minus(costs[i+5], costs[i+1])))
		}
		b.add(m)
		b.add(ratios)
		return nil
	})
}

// formSpaces makes the spaces: conntrack alone; the table; its old form; with the guard; with flows counted, of pods in
// a range; and of pods by address.
func formSpaces(ctx context.Context, w *world) (spaces []*space, err error) {
	table := func(o translate.Options, ranges ...netip.Prefix) *nft.Table {
		o.LogGroup = 86
		state := translate.New(nodeName, o)
		err = errors.Join(append(state.Add(&w.Cluster), err)...)
		state.SetNode(nodeName, ranges)
		return state.Complete()
	}
	fill := func(t *nft.Table) func(*space) error { // as netpold does
		return func(s *space) error { return s.loadTable(ctx, t) }
	}
	ranges := []netip.Prefix{podRange}
	for _, rules := range []func(*space) error{
		func(*space) error { return nil },
		fill(table(translate.Options{})),
		func(s *space) error { return s.loadText(inTwo(table(translate.Options{}).String())) },
		fill(table(translate.Options{Guard: guard.Options{UnknownPods: guard.Deny, Ranges: ranges}})),
		fill(table(translate.Options{Observe: 65536}, podRange)),
		fill(table(translate.Options{Observe: 65536})),
	} {
		s, failed := newSpace()
		if failed != nil {
			return spaces, failed
		}
		spaces = append(spaces, s)
		if err := errors.Join(s.loadText(baseline), rules(s)); err != nil {
			return spaces, err
		}
	}
	return spaces, err
}

// formContenders returns each load in each space, after one of conntrack alone. The established connection comes last,
// because beginning another load ends it.
func formContenders(w *world, spaces []*space) []contender {
	original, _ := exchange(w.clients[0], w.server)
	list := []contender{{space: spaces[0], load: datagrams(w.clients, w.server)}}
	for _, one := range []contender{
		{series: "first packet of a connection, pod without policy", load: datagrams(w.clients, w.free)},
		{series: "SYN, pod without policy", load: syns(w.clients, w.free)},
		{series: "first packet of a connection that the pod's policy allows", load: datagrams(w.clients, w.server)},
		{series: "packet of an established connection", load: original},
	} {
		for _, s := range spaces {
			list = append(list, contender{one.series, s, one.load})
		}
	}
	return list
}

// each applies f to the figures of each round.
func each(a, b []float64, f func(a, b float64) float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = f(a[i], b[i])
	}
	return out
}
