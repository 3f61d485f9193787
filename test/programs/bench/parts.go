// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// withEverything is a pod whose isolation has every kind of match, with a connection that the last one allows.
func withEverything() *world {
	w := newWorld()
	w.pod("other", "client")
	for i := range 4 { // as many as an isolation shares
		name := fmt.Sprintf("team-%d", i)
		w.Namespaces[name] = map[string]string{"team": name}
		ip := netip.AddrFrom4([4]byte{10, 200, 0, byte(i)})
		w.Pods = append(w.Pods, policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: name, Name: "pod"}, Node: "other",
			IPs: []netip.Addr{ip}, Running: true,
		})
		w.policy("server", rule(80, networkingv1.NetworkPolicyPeer{NamespaceSelector: selector("team", name)}))
	}
	several := rule(1000, pods("client"))
	last := int32(1999)
	several.Ports[0].EndPort = &last
	w.policy("server", rule(53), rule(80, pods("client")), several, rule(80, block("172.16.0.0/12", "172.17.0.0/16")))
	w.pod("other", "monitor")
	w.policy("server", everyPort(pods("monitor")))
	w.clients = []netip.Addr{netip.AddrFrom4([4]byte{172, 16, 0, 1})}
	return w
}

// withAudited is a pod with a ClusterNetworkPolicy in each tier, both only audited.
func withAudited() *world {
	w := withTiers(1)
	for _, p := range w.ClusterPolicies {
		p.Annotations = map[string]string{policy.ModeAnnotation: "audit"}
	}
	return w
}

// part is some rules, and a connection that passes them.
type part struct {
	label string
	load  load
	fill  func(*space) error
}

// partList is what is compared: each part adds to the one before it; the last ones show what audited policies add.
func partList(ctx context.Context) []part {
	text := func(rules string) func(*space) error { return func(s *space) error { return s.loadText(rules) } }
	chains := func(rule string) func(*space) error {
		const chain = "chain forward-%[1]d { type filter hook forward priority %[1]d; policy accept; %[2]s }\n"
		return text(baseline + "\ntable inet parts {\n" + fmt.Sprintf(chain, 0, rule) + fmt.Sprintf(chain,
			1, rule) + "}\n")
	}
	table := func(w *world) func(*space) error {
		return func(s *space) error {
			state := translate.New(nodeName, translate.Options{LogGroup: 86})
			return errors.Join(errors.Join(state.Add(&w.Cluster)...), s.loadText(baseline),
				s.loadTable(ctx, state.Complete()))
		}
	}
	few, many, audited := withPolicies(1), withEverything(), withAudited()
	in := datagrams(few.clients, few.server)
	return []part{
		{"", in, text(baseline)},
		{"two base chains, empty", in, chains("")},
		{"and `ct state established,related accept` in each", in, chains("ct state established,related accept\n")},
		{"netpold: a pod without policy, looked up in both directions", datagrams(few.clients, few.free), table(few)},
		{"netpold: a pod with one policy, which allows it", in, table(few)},
		{"netpold: an isolation with every kind of match, the last of which allows it",
			datagrams(many.clients, many.server), table(many)},
		{"netpold: a pod that only audited ClusterNetworkPolicies select, in both tiers",
			datagrams(audited.clients, audited.server), table(audited)},
		{"netpold: a pod without policy on the same node", datagrams(audited.clients, audited.free), table(audited)},
		{seriesAgain, in, text(baseline)},
	}
}

// contender makes a space for the part.
func (p part) contender() (contender, error) {
	s, err := newSpace()
	if err != nil {
		return contender{}, err
	}
	c := contender{p.label, s, p.load}
	if err := p.fill(s); err != nil {
		return c, fmt.Errorf("%s: %w", p.label, err)
	}
	ok, err := s.forwards(p.load)
	if err == nil && !ok {
		err = errors.New("the connection is not allowed")
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", p.label, err)
	}
	return c, nil
}

// parts measures what a new connection's time is made of.
func (b *bench) parts(ctx context.Context) error {
	return thread(func() error {
		var list []contender
		for _, p := range partList(ctx) {
			c, err := p.contender()
			if c.space != nil {
				defer closeQuietly(c.space)
			}
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		costs, err := compare(ctx, list, b.packetEffort())
		if err != nil {
			return err
		}
		m := figures.Measure{ID: "packet/parts", Title: "What the cost is made of", X: "rules for forwarded packets",
			Y: "added CPU time", Unit: "ns"}
		for i, c := range list[1:] {
			p := figures.NewPoint(float64(i), minus(costs[i+1], costs[0]))
			p.Label = c.series
			m.Add("above conntrack alone", p)
			b.progress("%s: %s: %.0f", m.ID, p.Label, p.Median)
		}
		b.add(m)
		return nil
	})
}
