// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
)

// Budgets that hold without a clock: what an event costs, by operations and allocations, is the same in a cluster of a hundred times the
// pods and policies, and a connection's way through the rules is as long.

// sizes are clusters of the same shape.
func sizes() []scale { return []scale{{1_000, 100, false}, {50_000, 5_000, false}} }

// newcomer is a pod of a known application that some policy of its namespace lets in on the node.
func (sc scale) newcomer(i int) translate.Pod {
	p := sc.pod(sc.local(0))
	p.Name, p.Node = fmt.Sprintf("newcomer-%d", i), "other"
	p.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 250, byte(i >> 8), byte(i)})}
	return p
}

// budget is what an event may cost: its own edit and the transaction that follows.
type budget struct {
	name        string
	edit        func(s *translate.State, sc scale, i int) // undone by the one after it, for i odd
	operations  int                                       // of a transaction, at most
	allocations float64                                   // of an event and its transaction, at most
}

func budgets() []budget {
	return []budget{
		{
			"pod of another node comes and goes", func(s *translate.State, sc scale, i int) {
				if i%2 == 0 {
					s.SetPod(sc.newcomer(0))
				} else {
					s.DeletePod(sc.newcomer(0).NamespacedName)
				}
			}, 20, 150,
		},
		{
			"pod of this node comes and goes", func(s *translate.State, sc scale, i int) {
				p := sc.newcomer(1)
				p.Node = "node"
				if i%2 == 0 {
					s.SetPod(p)
				} else {
					s.DeletePod(p.NamespacedName)
				}
			}, 20, 200,
		},
		{
			"pod is relabelled", func(s *translate.State, sc scale, i int) {
				p := sc.newcomer(2)
				if i%2 == 0 {
					p.Labels = map[string]string{"app.kubernetes.io/name": "none"}
				}
				s.SetPod(p)
			}, 20, 200,
		},
		{
			"policy that selects nobody here comes and goes", func(s *translate.State, sc scale, i int) {
				np := sc.policy(0)
				np.Name, np.Spec.PodSelector = "nobody", metav1.LabelSelector{MatchLabels: map[string]string{"app": "nobody"}}
				if i%2 == 0 {
					_ = s.SetPolicy(np)
				} else {
					s.DeletePolicy(types.NamespacedName{Namespace: np.Namespace, Name: np.Name})
				}
			}, 0, 400,
		},
	}
}

// TestBudget holds events against their budgets, in a small and in a large cluster.
func TestBudget(t *testing.T) {
	cost := make(map[string][]int) // operations, by size
	for _, sc := range sizes() {
		s := sc.state()
		for _, b := range budgets() {
			t.Run(fmt.Sprintf("%s/%s", b.name, sc), func(t *testing.T) {
				worst, i := 0, 0
				event := func() {
					b.edit(s, sc, i)
					i++
					if tx := s.Table().Pending(); tx != nil {
						worst = max(worst, tx.Len())
					}
				}
				for range 4 { // what is made once for all events of the kind
					event()
				}
				worst = 0
				allocations := testing.AllocsPerRun(100, event)
				if worst > b.operations || allocations > b.allocations {
					t.Errorf("%d operations, %.0f allocations; the budget is %d and %.0f", worst, allocations, b.operations, b.allocations)
				}
				t.Logf("%d operations, %.0f allocations", worst, allocations)
				cost[b.name] = append(cost[b.name], worst)
			})
		}
	}
	for name, operations := range cost {
		if operations[0] != operations[1] {
			t.Errorf("%s: %d operations in the small cluster, %d in the large one", name, operations[0], operations[1])
		}
	}
}

// TestBudgetOfMemory: a pod and a policy of no node that matters are some hundred bytes.
func TestBudgetOfMemory(t *testing.T) {
	const perPod, perPolicy = 500, 800 // bytes of heap; 349 and 473 were measured
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	sc := scale{50_000, 5_000, false}
	before := heap()
	s := translate.New("nowhere", translate.Options{})
	for i := range sc.namespaces() {
		sc.setNamespace(s, i, fmt.Sprint(i%teams))
	}
	for i := range sc.pods {
		s.SetPod(sc.pod(i))
	}
	pods := heap()
	for i := range sc.policies {
		_ = s.SetPolicy(sc.policy(i))
	}
	policies := heap()
	if got := (pods - before) / uint64(sc.pods); got > perPod {
		t.Errorf("a pod takes %d bytes, more than %d", got, perPod)
	}
	if got := (policies - pods) / uint64(sc.policies); got > perPolicy {
		t.Errorf("a policy takes %d bytes, more than %d", got, perPolicy)
	}
	runtime.KeepAlive(s)
}

// TestBudgetOfLookups: the longest way of a new connection through an isolation is as long with a thousand policies as with one. It is
// counted as the rules that the kernel may look at, in the isolation's chain and in those that it leads to.
func TestBudgetOfLookups(t *testing.T) {
	const budget = 30
	longest := make(map[int]int)
	for _, policies := range []int{1, 10, 1000} {
		s := translate.New("node", translate.Options{LogGroup: 86})
		s.SetNamespace("ns", map[string]string{"team": "a"})
		for i := range 100 {
			s.SetPod(translate.Pod{
				NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("pod-", i)}, Node: []string{"node", "other"}[min(i, 1)],
				Labels: map[string]string{"app": fmt.Sprint(i)}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}, Running: true,
			})
		}
		for i := range policies {
			_ = s.SetPolicy(everyKind(i))
		}
		table := s.Table()
		for _, c := range table.Chains() {
			if c.Base != nil {
				longest[policies] = max(longest[policies], longestWay(t, table, c.Name))
			}
		}
		if longest[policies] > budget {
			t.Errorf("%d policies: %d rules on the longest way, more than %d", policies, longest[policies], budget)
		}
	}
	if longest[1000] > longest[1] || longest[10] > longest[1] {
		t.Errorf("the longest way has, by the number of policies, %v rules", longest)
	}
}

// everyKind is a policy of pod-0 whose rules need every kind of match, each for others than those of the other policies.
func everyKind(i int) *networkingv1.NetworkPolicy {
	port := func(first, last int32) []networkingv1.NetworkPolicyPort {
		number := intstr.FromInt32(first)
		return []networkingv1.NetworkPolicyPort{{Port: &number, EndPort: &last}}
	}
	app := func(n int) []networkingv1.NetworkPolicyPeer {
		return []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint(1 + n%99)}}}}
	}
	n := int32(i % 1000)
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("policy-", i)}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": "0"}
	single := port(1000+n, 1000+n)
	single[0].EndPort = nil
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{
		{From: app(i), Ports: single},
		{From: app(i + 33)},
		{From: app(i + 66), Ports: port(2000+n, 3000+n)},
		{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}}}, Ports: port(40_000, 41_000)},
		{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.0.%d.%d/32", i/256, i%256)}}}, Ports: port(5000+n, 6000+n)},
		{Ports: port(50_000+n, 50_000+n)},
	}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyType("Ingress")}
	return np
}

// longestWay counts the rules on the longest way from the start of a chain.
func longestWay(t *testing.T, table *nft.Table, name string) int {
	t.Helper()
	c := table.Chain(name)
	if c == nil {
		t.Fatalf("no chain %s", name)
	}
	rules := 0
	for _, r := range c.Rules {
		rules++
		next := 0
		for _, statement := range r.Statements {
			switch s := statement.(type) {
			case nft.Verdict:
				if s.Chain != "" {
					next = longestWay(t, table, s.Chain)
				}
			case nft.Lookup:
				for _, e := range table.FindSet(s.Set).Elements() {
					if e.Verdict.Chain != "" {
						next = max(next, longestWay(t, table, e.Verdict.Chain))
					}
				}
			}
		}
		rules += next
	}
	return rules
}
