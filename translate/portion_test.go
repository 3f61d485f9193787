// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// TestPortions completes changed tables in the smallest portions. No table on the way allows what no cluster on the way
// allowed, the kernel takes each step, and the end is what one step makes.
func TestPortions(t *testing.T) {
	portions := 0
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := clusterOf(g, seed)
		s := build(c, node, options(seed))
		var kernel model
		if err := kernel.apply(s.Complete().Take()); err != nil {
			return err
		}
		for step := range 10 {
			way := []policy.Cluster{*c}
			for range 1 + r.IntN(4) {
				e := g.Event(c)
				e.Apply(s)
				e.ApplyTo(c)
				way = append(way, *c)
			}
			flows := random.NewFlows(r, c, nil)
			for more := true; more; portions++ {
				var table *nft.Table
				table, more = s.Portion(1)
				if tx := table.Take(); tx != nil {
					if err := kernel.apply(tx); err != nil {
						return fmt.Errorf("step %d: %w in\n%s", step, err, tx)
					}
				}
				for range 20 {
					if err := notWider(table, way, flows.Next()); err != nil {
						return fmt.Errorf("step %d: %w", step, err)
					}
				}
			}
			if err := kernel.settle(s.Complete()); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
			if err := sameAsNew(&kernel, s, c, options(seed)); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		return nil
	})
	t.Logf("%d portions", portions)
}

// notWider says whether what the table allows was allowed in each direction by some cluster on the way.
func notWider(table *nft.Table, way []policy.Cluster, f policy.Flow) error {
	trail, err := trace.Follow(table, translate.PacketOf(f))
	steps, v := trail.Steps, trail.Verdict
	if err != nil || v.Kind != nft.Accept {
		return err
	}
	var egress, ingress bool
	for _, c := range way {
		e := c.Explain(f)
		egress = egress || e.Egress.Allowed || e.Egress.Pod == nil || e.Egress.Pod.Node != node
		ingress = ingress || e.Ingress.Allowed || e.Ingress.Pod == nil || e.Ingress.Pod.Node != node
	}
	if !egress || !ingress {
		return fmt.Errorf("%s is allowed by %v, and no cluster allowed it", f, steps)
	}
	return nil
}

// TestPortionsInOrder: what a namespace changes comes before the rest of what another has changed, and new pods are
// isolated at once.
func TestPortionsInOrder(t *testing.T) {
	const isolations, peers = 20, 500
	s := translate.New(node, translate.Options{})
	pod := func(ns, name string, n int, on string) {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: ns, Name: name}, Node: on,
			Labels: map[string]string{"app": name},
			IPs:    []netip.Addr{a}, Running: true,
		})
	}
	allow := func(ns, name string) {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"app": name}
		peer := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}},
		}}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{peer}}}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	for i := range peers {
		pod("large", fmt.Sprint("peer-", i), 1000+i, "other")
	}
	for i := range isolations {
		pod("large", fmt.Sprint("app-", i), 1+i, node)
	}
	pod("small", "app", 100, node)
	pod("small", "peer", 101, "other")
	s.Complete().Take()

	for i := range isolations {
		allow("large", fmt.Sprint("app-", i))
	}
	var table *nft.Table
	passes := func(src, dst int) bool {
		address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
		trail, err := trace.Follow(table, translate.PacketOf(policy.Flow{Src: address(src), Dst: address(dst),
			Proto: nft.TCP, DstPort: 80}))
		v := trail.Verdict
		if err != nil {
			t.Fatal(err)
		}
		return v.Kind == nft.Accept
	}
	more := false
	table, more = s.Portion(2 * peers)
	if n := table.Take().Len(); !more || n > 4*peers {
		t.Errorf("the first portion has %d operations, more: %t", n, more)
	}
	for i := range isolations {
		if passes(101, 1+i) {
			t.Errorf("app-%d is open", i)
		}
	}
	allow("small", "app")
	if _, more := s.Portion(1); !more || !passes(101, 100) || passes(1000, 100) {
		t.Errorf("the small namespace waits: %t %t", passes(101, 100), passes(1000, 100))
	}
	portions := 0
	for more := true; more; portions++ {
		if table, more = s.Portion(2 * peers); table.Take().Len() > 4*peers {
			t.Errorf("portion %d is large", portions)
		}
	}
	if portions < 5 {
		t.Errorf("the rest took %d portions", portions)
	}
	for i := range isolations {
		if !passes(1000, 1+i) || passes(101, 1+i) {
			t.Errorf("app-%d: peers pass %t, others %t", i, passes(1000, 1+i), passes(101, 1+i))
		}
	}
}
