// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// TestPortions completes changed tables in the smallest portions. No table on the way allows what no cluster on the way
// allowed, the kernel accepts each step, and the result is that of a single step.
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
			for more, budget := true, 0; more; portions, budget = portions+1, 1 {
				var table *nft.Table
				table, more = s.Portion(budget)
				if tx := table.Take(); tx != nil {
					if err := kernel.apply(tx); err != nil {
						return fmt.Errorf("step %d: %w in\n%s", step, err, tx)
					}
				}
				for range 50 {
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

// TestPortionOfManyPolicies: to find which of a namespace's many policies select its pods is work, too: others' changes
// need not wait until that is done for all pods.
func TestPortionOfManyPolicies(t *testing.T) {
	const pods, policies, portion = 50, 600, 2000
	s := translate.New(node, translate.Options{})
	for i := range pods {
		name := types.NamespacedName{Namespace: "many", Name: fmt.Sprint("pod-", i)}
		s.SetPod(policy.Pod{NamespacedName: name, Node: node, Labels: map[string]string{"pod": name.Name},
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}})
	}
	set := func(i int) {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "many", Name: fmt.Sprint(i)}}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	for i := range policies {
		set(i)
	}
	s.Complete().Take()
	set(policies)
	portions := 0
	for more := true; more; portions++ {
		_, more = s.Portion(portion)
	}
	if least := pods * policies / 3 / portion; portions < least {
		t.Errorf("%d policies of %d pods are looked at in %d portions, want %d", policies, pods, portions, least)
	}
}

// notWider says whether what the table allows was allowed in each direction by some cluster on the way.
func notWider(table *nft.Table, way []policy.Cluster, f policy.Flow) error {
	trail, err := trace.Follow(table, frame.PacketOf(f))
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

// TestPortionsNotOvertaken: a pod that comes after a policy has changed is not allowed by what the policy said before,
// even if nothing else of the change is complete.
func TestPortionsNotOvertaken(t *testing.T) {
	s := limited(content.Limits{}, 0)
	from := func(app string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}
	}
	limitPolicy(t, s, "a", from("before"), 1)
	s.Complete().Take()
	limitPolicy(t, s, "a", from("after"), 1)
	s.SetPod(policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "ns", Name: "late"}, Node: "other",
		Labels: map[string]string{"app": "before"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.1.0")},
	})
	table, _ := s.Portion(0)
	trail, err := trace.Follow(table, frame.PacketOf(policy.Flow{
		Src: netip.MustParseAddr("10.0.1.0"), Dst: netip.MustParseAddr("10.0.0.1"), Proto: nft.TCP, DstPort: 1}))
	if err != nil || trail.Verdict.Kind == nft.Accept {
		t.Errorf("the pod is allowed by a policy that was changed before it came: %v", err)
	}
}

// TestPortionsInOrder: a namespace's changes come before the rest of another's, and new pods are isolated at once.
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
		trail, err := trace.Follow(table, frame.PacketOf(policy.Flow{Src: address(src), Dst: address(dst),
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

// TestPortionsOfLists: lists of ClusterNetworkPolicies are made in portions, too; a tenant's policy does not wait for
// them, and a pod's list stays in force until the new one is complete.
func TestPortionsOfLists(t *testing.T) {
	const lists, peers = 20, 500
	s := translate.New(node, translate.Options{})
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	pod := func(ns string, n int, labels map[string]string) {
		on := node
		if n >= 1000 {
			on = "other"
		}
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: ns, Name: fmt.Sprint("pod-", n)}, Node: on, Labels: labels,
			IPs: []netip.Addr{address(n)}, Running: true,
		})
	}
	s.SetNamespace("large", map[string]string{})
	for i := range peers {
		pod("large", 1000+i, map[string]string{"peer": "true"})
	}
	for i := range lists {
		pod("large", i, map[string]string{"app": fmt.Sprint(i)})
	}
	pod("small", 100, nil)
	s.Complete().Take()
	for i := range lists {
		p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
		p.Name, p.Spec.Tier = fmt.Sprint("p-", i), v1alpha2.AdminTier
		of := func(key, value string) metav1.LabelSelector {
			return metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
		}
		p.Spec.Subject.Pods = &v1alpha2.NamespacedPod{PodSelector: of("app", fmt.Sprint(i))}
		p.Spec.Egress = []v1alpha2.ClusterNetworkPolicyEgressRule{{
			Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny, To: []v1alpha2.ClusterNetworkPolicyEgressPeer{
				{Pods: &v1alpha2.NamespacedPod{PodSelector: of("peer", "true")}}},
		}}
		s.SetClusterPolicy(p)
	}
	var table *nft.Table
	passes := func(src, dst int) bool {
		f := policy.Flow{Src: address(src), Dst: address(dst), Proto: nft.TCP, DstPort: 80}
		trail, err := trace.Follow(table, frame.PacketOf(f))
		if err != nil {
			t.Fatal(err)
		}
		return trail.Verdict.Kind == nft.Accept
	}
	table, more := s.Portion(peers)
	if n := table.Take().Len(); !more || n > 4*peers {
		t.Errorf("the first portion has %d operations, more: %t", n, more)
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "small", Name: "deny"}}
	if err := s.SetPolicy(np); err != nil {
		t.Fatal(err)
	}
	if _, more = s.Portion(1); !more || passes(1000, 100) {
		t.Errorf("the small namespace waits: %t", passes(1000, 100))
	}
	pod("large", lists, map[string]string{"app": "0"})
	if _, more = s.Portion(1); !more || passes(lists, 1000) {
		t.Error("a new pod is open before its list is there")
	}
	portions := 0
	for more = true; more; portions++ {
		table, more = s.Portion(peers)
		if tx := table.Take(); tx != nil && tx.Len() > 4*peers {
			t.Errorf("portion %d has %d operations", portions, tx.Len())
		}
		for i := range lists {
			if !passes(i, 101) {
				t.Errorf("portion %d: pod %d is denied more than any cluster on the way", portions, i)
			}
		}
	}
	if portions < 5 {
		t.Errorf("the rest took %d portions", portions)
	}
	for i := range lists {
		if passes(i, 1000) {
			t.Errorf("pod %d is open in the end", i)
		}
	}
}
