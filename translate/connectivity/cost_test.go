// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// distinct returns pods without owners, in two namespaces, which policies all treat differently.
func distinct(pods int) *policy.Cluster {
	c := &policy.Cluster{Namespaces: map[string]map[string]string{"a": {"x": "y"}, "b": {"x": "y"}}}
	for i := range pods {
		name := types.NamespacedName{Namespace: []string{"a", "b"}[i%2], Name: fmt.Sprint("pod-", i)}
		c.Pods = append(c.Pods, policy.Pod{NamespacedName: name, Node: "node", Running: true,
			Labels: map[string]string{"app": fmt.Sprint("app-", i), "group": fmt.Sprint(i)},
			IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
		c.Policies = append(c.Policies, opening(name.Namespace, fmt.Sprint("app-", i), int32(1+i%7)))
	}
	return c
}

// What is done for every pair of workloads does not allocate: for 10,000 pods that are each a workload, that would take
// most of the time.
func TestCompareAllocatesNothingForEachPair(t *testing.T) {
	const pods = 300
	before, after := connectivity.New(&policy.Cluster{}), connectivity.New(distinct(pods))
	var d *connectivity.Diff
	allocations := testing.AllocsPerRun(1, func() { d = connectivity.Compare(before, after) })
	pairs := 0
	for _, c := range d.Changes {
		pairs += len(c.From.Workloads) * len(c.To.Workloads)
	}
	if pairs != pods*pods {
		t.Fatalf("%d pairs gained, want all %d", pairs, pods*pods)
	}
	if allocations > pods*pods {
		t.Errorf("%.0f allocations for %d pairs of workloads", allocations, pods*pods)
	}
}

// comparisonCost returns the cost of comparing two clusters, and how many pairs of workloads change.
func comparisonCost(t *testing.T, old, changed *policy.Cluster) (allocations float64, pairs int) {
	t.Helper()
	before, after := connectivity.New(old), connectivity.New(changed)
	var d *connectivity.Diff
	allocations = testing.AllocsPerRun(1, func() { d = connectivity.Compare(before, after) })
	for _, c := range d.Changes {
		pairs += len(c.From.Workloads) * len(c.To.Workloads)
	}
	t.Logf("%.0f allocations, %d pairs", allocations, pairs)
	return allocations, pairs
}

// The causes of pairs that change for the same reasons are worked out once.
func TestCompareAsksForCausesOnce(t *testing.T) {
	const pods = 1000
	old, changed := scattered(pods, 200), scattered(pods, 200)
	for i := range 20 {
		changed.Policies[10*i].Spec.Ingress[0].Ports[0].Port = new(intstr.FromInt32(9999))
	}
	allocations, pairs := comparisonCost(t, old, changed)
	if pairs < pods || allocations > 150*pods { // it was 290
		t.Errorf("%.0f allocations for %d pairs of workloads that change", allocations, pairs)
	}
}

// If every policy differs, each pair may change for its own reasons: they are found without asking every policy about
// each pair.
func TestCompareWhereAllPoliciesDiffer(t *testing.T) {
	const pods = 1000
	old, changed := scattered(pods, 200), scattered(pods, 200)
	for i, np := range changed.Policies {
		np.Spec.PodSelector = old.Policies[(i+1)%len(old.Policies)].Spec.PodSelector
	}
	allocations, pairs := comparisonCost(t, old, changed)
	if pairs < 10*pods || allocations > 8*float64(pairs) {
		t.Errorf("%.0f allocations for %d pairs of workloads that change", allocations, pairs)
	}
}

// The rows of a matrix are worked out one by one: what a pair of workloads takes is two numbers of sets of ports.
func TestConnectionsTakeLittleForEachPair(t *testing.T) {
	const pods = 600
	m := connectivity.New(distinct(pods))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	all := m.Connections()
	runtime.ReadMemStats(&after)
	pairs := 0
	for _, c := range all {
		pairs += len(c.From.Workloads) * len(c.To.Workloads)
	}
	if pairs != pods*pods {
		t.Fatalf("%d pairs are open, want all %d", pairs, pods*pods)
	}
	if each := float64(after.TotalAlloc-before.TotalAlloc) / float64(pairs); each > 12 {
		t.Errorf("%.1f bytes for each pair of workloads", each)
	} else {
		t.Logf("%.1f bytes for each pair of workloads", each)
	}
}

// Pods of one namespace that policies select by labels at random are treated in as many ways as there are pods: of what
// is open between all pairs nothing is kept.
func TestRandomSelectorsTakeLittleForEachPod(t *testing.T) {
	const pods, policies = 2000, 200
	c := scattered(pods, policies)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := connectivity.New(c)
	runtime.ReadMemStats(&after)
	ways := make(map[int]bool)
	for _, p := range c.Pods {
		class, _ := m.ClassOf(p.IPs[0])
		ways[class] = true
	}
	if len(ways) < pods*3/4 {
		t.Fatalf("policies treat the %d pods in %d ways only", pods, len(ways))
	}
	each := float64(after.TotalAlloc-before.TotalAlloc) / pods
	t.Logf("%d ways; %.0f bytes for each pod", len(ways), each)
	if each > 4*pods {
		t.Errorf("%.0f bytes for each pod: of each pair something is kept", each)
	}
	if n := testing.AllocsPerRun(1, func() { connectivity.New(c) }) / pods; n > 200 {
		t.Errorf("%.0f allocations for each pod, whose %d policies are read once", n, policies)
	}
}

// NotIn selects most pods, so that each is open on ports of its own. What is listed on the way to each set is small,
// and rows that are the same are computed once. What does not end is refused.
func TestNotInWithPortsOfEachPolicy(t *testing.T) {
	const pods = 400
	c := scattered(pods, 200)
	for i, np := range c.Policies {
		for k, v := range np.Spec.PodSelector.MatchLabels {
			np.Spec.PodSelector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: k, Operator: metav1.LabelSelectorOpNotIn, Values: []string{v}}}}
		}
		np.Spec.Ingress[0].From = nil
		np.Spec.Ingress[0].Ports[0].Port = new(intstr.FromInt32(int32(1000 + 2*i)))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := connectivity.New(c)
	all := m.Connections()
	runtime.ReadMemStats(&after)
	if len(all) < pods || m.Err() != nil {
		t.Fatalf("%d connections of %d pods, error %v", len(all), pods, m.Err())
	}
	each := float64(after.TotalAlloc-before.TotalAlloc) / pods / float64(len(c.Policies))
	if t.Logf("%.0f bytes for each pod and policy", each); each > 2000 {
		t.Errorf("%.0f bytes for each pod and policy", each)
	}
	confined := connectivity.New(c)
	confined.Confine(1000)
	if all := confined.Connections(); all != nil || confined.Err() == nil {
		t.Errorf("%d connections and no error, though there is no room for them", len(all))
	}
	whole := connectivity.New(&policy.Cluster{})
	confined = connectivity.New(c)
	confined.Confine(1000)
	if connectivity.Compare(whole, confined); confined.Err() == nil {
		t.Error("no error, though there is no room to compare the clusters")
	}
}

// scattered returns pods of one namespace with labels at random, and policies that select by two of them.
func scattered(pods, policies int) *policy.Cluster {
	r := rand.New(rand.NewPCG(9, 0))
	label := func() (key, value string) { return fmt.Sprint("k", r.IntN(12)), fmt.Sprint(r.IntN(10)) }
	selector := func() *metav1.LabelSelector {
		set := make(map[string]string)
		for len(set) < 2 {
			k, v := label()
			set[k] = v
		}
		return &metav1.LabelSelector{MatchLabels: set}
	}
	c := &policy.Cluster{Namespaces: map[string]map[string]string{"one": {}}}
	for i := range pods {
		p := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "one", Name: fmt.Sprint("pod-", i)},
			Node: "node", Running: true, Labels: make(map[string]string),
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}
		for range 24 {
			k, v := label()
			p.Labels[k] = v
		}
		c.Pods = append(c.Pods, p)
	}
	for i := range policies {
		np := new(networkingv1.NetworkPolicy)
		np.Namespace, np.Name = "one", fmt.Sprint("policy-", i)
		np.Spec.PodSelector = *selector()
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{PodSelector: selector()}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(int32(80 + i%4)))}},
		}}
		c.Policies = append(c.Policies, np)
	}
	return c
}

// The text of a side that names many workloads costs little more than its slices.
func TestTextAllocatesNothingForEachWorkload(t *testing.T) {
	const pods = 1000
	m := connectivity.New(distinct(pods))
	var some connectivity.Side
	for w := range m.Workloads {
		if w%2 == 0 {
			some.Workloads = append(some.Workloads, w)
		}
	}
	parts := 0
	allocations := testing.AllocsPerRun(2, func() { parts = len(m.Text(some)) })
	if parts != pods/2 {
		t.Fatalf("%d parts, want %d", parts, pods/2)
	}
	if allocations > 50 {
		t.Errorf("%.0f allocations for a side of %d workloads", allocations, pods/2)
	}
}

// opening returns a policy that isolates pods with a label app and opens one port of them to all pods.
func opening(namespace, app string, port int32) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(port))}},
	}}
	return np
}
