// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// limited is a node with one isolated pod, 10.0.0.1, and peers from 10.0.1.0 on.
func limited(limits content.Limits, peers int) *translate.State {
	s := translate.New(node, translate.Options{Limits: limits})
	s.SetNamespace("ns", nil)
	pod := func(name, on string, a netip.Addr) {
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: on,
			Labels: map[string]string{"app": on},
			IPs:    []netip.Addr{a}, Running: true,
		})
	}
	pod("pod", node, netip.MustParseAddr("10.0.0.1"))
	for i := range peers {
		pod(fmt.Sprint("peer-", i), "other", netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}))
	}
	return s
}

// limitPolicy sets a policy for the pod with a rule for each port; the peers are the pods of the other node, or a
// block.
func limitPolicy(t *testing.T, s *translate.State, name string, peer networkingv1.NetworkPolicyPeer, ports ...int) {
	t.Helper()
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": node}
	for _, n := range ports {
		number := intstr.FromInt(n)
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
			From: []networkingv1.NetworkPolicyPeer{peer}, Ports: []networkingv1.NetworkPolicyPort{{Port: &number}},
		})
	}
	if err := s.SetPolicy(np); err != nil {
		t.Fatal(err)
	}
}

// open returns which of ports 1 to 9 are open from the first peer to the pod.
func openPorts(t *testing.T, s *translate.State) string {
	t.Helper()
	var open []string
	for port := range uint16(10) {
		f := policy.Flow{Src: netip.MustParseAddr("10.0.1.0"), Dst: netip.MustParseAddr("10.0.0.1"),
			Proto: nft.TCP, DstPort: port}
		trail, err := trace.Follow(s.Complete(), frame.PacketOf(f))
		v := trail.Verdict
		if err != nil {
			t.Fatal(err)
		}
		if e := s.Excerpt(f).Explain(f); e.Allowed != (v.Kind == nft.Accept) {
			t.Errorf("port %d: Explain allows it: %t, the rules: %s", port, e.Allowed, v)
		}
		if v.Kind == nft.Accept {
			open = append(open, fmt.Sprint(port))
		}
	}
	return strings.Join(open, " ")
}

// troublesOf returns what is over a limit.
func troublesOf(s *translate.State) string {
	var all []string
	for trouble := range s.Troubles() {
		all = append(all, fmt.Sprintf("%s %s %s", trouble.Kind, trouble.Policies[0].Name, trouble.Reason))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestLimits: rules that do not fit allow nothing, and are named.
func TestLimits(t *testing.T) {
	other := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}
	pods := networkingv1.NetworkPolicyPeer{PodSelector: other}
	block := networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.1.0/24"}}
	for _, row := range []struct {
		limits   content.Limits
		peer     networkingv1.NetworkPolicyPeer
		open     string
		troubles string
	}{
		{content.Limits{}, pods, "1 2 3 4", ""},
		{content.DefaultLimits(), block, "1 2 3 4", ""},
		{content.Limits{Policies: 1}, pods, "1 2",
			"over-limit b spec.ingress[0]: more than 1 policies for one pod, and 1 more rules"},
		{content.Limits{Selectors: 3}, pods, "1 2 3",
			"over-limit b spec.ingress[1]: more than 3 selectors in the rules for one pod"},
		{content.Limits{Blocks: 3}, block, "1 2 3",
			"over-limit b spec.ingress[1]: more than 3 CIDRs in the rules for one pod"},
		{content.Limits{Elements: 5}, block, "1 2", // two for each CIDR
			"over-limit b spec.ingress[0]: 2 elements, more than is left of 5 for one pod, and 1 more rules"},
		{content.Limits{Elements: 25}, pods, "1 2",
			"over-limit b spec.ingress[0]: 10 elements, more than is left of 25 for one pod, and 1 more rules"},
		{content.Limits{Namespace: 30}, pods, "1 2 3",
			"over-limit b spec.ingress[1]: 10 elements, more than is left of 30 for one pod"},
		{
			content.Limits{Elements: 9}, pods, "",
			"over-limit a spec.ingress[0]: 10 elements, more than is left of 9 for one pod, and 1 more rules\n" +
				"over-limit b spec.ingress[0]: more than 18 elements, with the rules before it, where there are 9 " +
				"for one pod, and 1 more rules",
		},
	} {
		s := limited(row.limits, 10)
		limitPolicy(t, s, "b", row.peer, 3, 4)
		limitPolicy(t, s, "a", row.peer, 1, 2)
		if got := openPorts(t, s); got != row.open {
			t.Errorf("%+v: open are %q, want %q", row.limits, got, row.open)
		}
		if got := troublesOf(s); got != row.troubles {
			t.Errorf("%+v: %s, want %s", row.limits, got, row.troubles)
		}
	}
}

// TestLimitsFollowPods: a rule is over the limit while its selector matches too many pods.
func TestLimitsFollowPods(t *testing.T) {
	s := limited(content.Limits{Elements: 10}, 10)
	other := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}
	pods := networkingv1.NetworkPolicyPeer{PodSelector: other}
	limitPolicy(t, s, "a", pods, 1)
	if got := openPorts(t, s); got != "1" {
		t.Fatalf("open are %q", got)
	}
	version := s.TroubleVersion()
	extra := types.NamespacedName{Namespace: "ns", Name: "extra"}
	s.SetPod(policy.Pod{NamespacedName: extra, Labels: map[string]string{"app": "other"},
		IPs: []netip.Addr{netip.MustParseAddr("10.0.2.1")}, Running: true})
	if got := openPorts(t, s); got != "" || s.TroubleVersion() == version {
		t.Errorf("open are %q with a pod too many", got)
	}
	s.DeletePod(extra)
	if !s.Changed() {
		t.Error("that there is room again is no change")
	}
	if got := openPorts(t, s); got != "1" || troublesOf(s) != "" {
		t.Errorf("open are %q, and %s", got, troublesOf(s))
	}
}

// TestLimitOfAudited: audited policies take nothing from the limit of the namespace's enforced ones.
func TestLimitOfAudited(t *testing.T) {
	s := limited(content.Limits{Namespace: 30}, 10)
	for _, name := range []string{"a", "b", "c"} {
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: node, Running: true,
			Labels: map[string]string{"own": name}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 2, name[0]})},
		})
	}
	number := intstr.FromInt(1)
	for _, name := range []string{"a", "b", "c"} {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"own": name}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"app": "other"},
			}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &number}},
		}}
		if name != "b" {
			np.Annotations = map[string]string{policy.ModeAnnotation: "audit"}
			np.Spec.Ingress = append(np.Spec.Ingress, np.Spec.Ingress[0], np.Spec.Ingress[0])
			for i := range np.Spec.Ingress {
				port := intstr.FromInt(10 + i)
				np.Spec.Ingress[i].Ports = []networkingv1.NetworkPolicyPort{{Port: &port}}
			}
		}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	s.Complete()
	if got := troublesOf(s); got == "" || strings.Contains(got, "over-limit b ") {
		t.Errorf("not only audited policies are over the limit: %s", got)
	}
}

// TestLimitOfMatches: policies whose selectors all match nearly every pod are over the limit, and finding that out
// costs no more than what the limits allow.
func TestLimitOfMatches(t *testing.T) {
	const peers, isolated, selectors, elements, all = 200, 10, 50, 1000, 2500
	s := limited(content.Limits{Elements: elements, Namespace: all}, peers)
	for i := range peers {
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("peer-", i)}, Running: true,
			Labels: map[string]string{"app": "other", "name": fmt.Sprint(i)}, // each of an identity of its own
			IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})},
		})
	}
	for i := range isolated {
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("own-", i)}, Node: node,
			Labels: map[string]string{"app": node, "own": fmt.Sprint(i)},
			IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 2, byte(i)})}, Running: true,
		})
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name = "ns", fmt.Sprint("own-", i)
		np.Spec.PodSelector.MatchLabels = map[string]string{"own": fmt.Sprint(i)}
		var from []networkingv1.NetworkPolicyPeer
		for j := range selectors {
			from = append(from, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: fmt.Sprintf("not-%d-%d", i, j),
					Operator: metav1.LabelSelectorOpDoesNotExist}},
			}})
		}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from}, {From: from[:1]}}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	s.Complete()
	// twice what an isolation may have, and a selector's, of each for which the namespace has room; and a selector's
	if got, most := s.Sizes()["matches"], 2*all+2*isolated*(peers+isolated+1); got > most {
		t.Errorf("selectors match %d identities, want at most %d", got, most)
	}
	if got, want := troublesOf(s), "over-limit own-0 spec.ingress[0]: more than 2000 elements, with the rules before "+
		"it, where there are 1000 for one pod, and 1 more rules"; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	for i := range peers { // there is room for all now
		s.DeletePod(types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("peer-", i)})
	}
	s.Complete()
	for i := range isolated {
		s.DeletePod(types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("own-", i)})
		if s.Complete(); i < isolated-2 {
			continue
		}
		if got := troublesOf(s); got != "" {
			t.Errorf("with %d pods: %s", isolated-i-1, got)
		}
	}
}

// TestLimitOfShared: if each pod has its own namespaceSelectors that match nearly every pod, the sets of the first ones
// are shared, and the others are counted. What is free depends on the objects, not on their order.
func TestLimitOfShared(t *testing.T) {
	const peers, isolated, all = 200, 10, 2500
	state := func() *translate.State { return limited(content.Limits{Elements: 1000, Namespace: all}, peers) }
	set := func(s *translate.State, i int) {
		label := map[string]string{"own": fmt.Sprint(i)}
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("own-", i)}, Node: node,
			Labels: label, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 2, byte(i)})}, Running: true,
		})
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name, np.Spec.PodSelector.MatchLabels = "ns", fmt.Sprint("own-", i), label
		var from []networkingv1.NetworkPolicyPeer
		for j := range 4 {
			from = append(from, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: fmt.Sprintf("not-%d-%d", i, j),
					Operator: metav1.LabelSelectorOpDoesNotExist}},
			}})
		}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from}}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
		s.Complete()
	}
	s, back := state(), state()
	for i := range isolated {
		set(s, i)
		set(back, isolated-1-i)
	}
	most := all + 8*(peers+isolated+1) + 100 // and who is where
	if got := s.Summary().Elements; got > most {
		t.Errorf("the table has %d elements, want at most %d", got, most)
	}
	if want, got := s.Complete().String(), back.Complete().String(); got != want {
		t.Errorf("the order counts:\n%s", diff(want, got))
	}
	for i := range isolated - 2 { // the others have room, then
		s.DeletePolicy(types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("own-", i)})
	}
	if s.Complete(); troublesOf(s) != "" {
		t.Errorf("of two policies: %s", troublesOf(s))
	}
}

// TestLimitOfOverlaps: if overlapping blocks and ports would become too much, they are left out from the end.
func TestLimitOfOverlaps(t *testing.T) {
	s := limited(content.Limits{Elements: 20_000}, 1)
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}}
	var all []networkingv1.NetworkPolicyPeer
	for i := range 200 {
		all = append(all,
			networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("10.0.1.%d/32", i)}})
	}
	rule := func(first, n int, peers ...networkingv1.NetworkPolicyPeer) {
		r := networkingv1.NetworkPolicyIngressRule{From: peers}
		for i := range n {
			number := intstr.FromInt(first + 2*i)
			r.Ports = append(r.Ports, networkingv1.NetworkPolicyPort{Port: &number})
		}
		np.Spec.Ingress = append(np.Spec.Ingress, r)
	}
	rule(1, 200, all...)
	for i, peer := range all {
		rule(10_000+2*i, 1, peer)
	}
	if err := s.SetPolicy(np); err != nil {
		t.Fatal(err)
	}
	if got := openPorts(t, s); got != "1 3 5 7 9" {
		t.Errorf("open are %q", got)
	}
	if got := troublesOf(s); !strings.Contains(got, "overlap") {
		t.Errorf("got %q", got)
	}
}
