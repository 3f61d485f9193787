// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// The budgets test, without a clock, that an event costs what it changes, whatever the size of the cluster around it.

// crowd is a cluster of some size around a shop whose pods and policies are always the same. All pods of the crowd are
// peers of the shop: they are in the set of all namespaces, and every tenth in a set of the shop's own.
type crowd int

func (n crowd) pod(i int) policy.Pod {
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: fmt.Sprintf("crowd-%d", i%10), Name: fmt.Sprintf("pod-%d", i)},
		Node:           "elsewhere", Running: true,
		Labels: map[string]string{"app": fmt.Sprintf("app-%d", i/10), "client": fmt.Sprint(i%10 == 0)},
		IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
	}
}

func shopPod(i int, labels map[string]string) policy.Pod {
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("web-%d", i)},
		Node:           "node", Running: true, Labels: labels,
		IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}),
			netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i))},
	}
}

// shopPolicy allows clients of all namespaces to reach pods of the shop, all namespaces on another port, and the shop's
// pods among each other.
func shopPolicy(name string, port int32) *networkingv1.NetworkPolicy {
	ports := func(n int32) []networkingv1.NetworkPolicyPort {
		number := intstr.FromInt32(n)
		return []networkingv1.NetworkPolicyPort{{Port: &number}}
	}
	labelled := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	clients, web := labelled("client", "true"), labelled("app", "web")
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *labelled("app", "web"),
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{},
					PodSelector: clients}}, Ports: ports(80)},
				{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}},
					Ports: ports(443)},
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: web}}, Ports: ports(port)},
			},
		},
	}
}

func (n crowd) state() *translate.State {
	s := translate.New("node", translate.Options{})
	s.SetNamespace("shop", nil)
	s.SetNamespace("small", nil)
	for i := range 10 {
		s.SetNamespace(fmt.Sprintf("crowd-%d", i), nil)
	}
	for i := range int(n) {
		s.SetPod(n.pod(i))
		if i%10 == 0 {
			np := shopPolicy(fmt.Sprintf("policy-%d", i), 80)
			np.Namespace = fmt.Sprintf("crowd-%d", i%10)
			_ = s.SetPolicy(np)
		}
	}
	s.SetPod(shopPod(20, map[string]string{"app": "other"}))
	for i := range 5 {
		s.SetPod(shopPod(i, map[string]string{"app": "web"}))
		p := shopPod(10+i, map[string]string{"app": "small"})
		p.Namespace, p.Node = "small", "elsewhere"
		s.SetPod(p)
	}
	_ = s.SetPolicy(shopPolicy("first", 81))
	_ = s.SetPolicy(shopPolicy("second", 82))
	s.Complete().Take()
	return s
}

// turn is an event and the one that undoes it.
type turn struct {
	name   string
	do, un func(*translate.State)
}

func turns() []turn {
	others := shopPolicy("third", 83)
	others.Spec.PodSelector.MatchLabels["app"] = "other"
	others.Spec.Ingress = others.Spec.Ingress[1:] // clients are copied into the set of each isolation
	set := func(p policy.Pod) func(*translate.State) { return func(s *translate.State) { s.SetPod(p) } }
	remove := func(p policy.Pod) func(*translate.State) {
		return func(s *translate.State) { s.DeletePod(p.NamespacedName) }
	}
	web, other := map[string]string{"app": "web"}, map[string]string{"app": "other"}
	client := crowd(0).pod(0)
	stranger := client
	stranger.Labels = map[string]string{"app": "app-0", "client": "false"}
	return []turn{
		{"local pod added", set(shopPod(9, web)), remove(shopPod(9, web))},
		{"local pod relabelled", set(shopPod(1, other)), set(shopPod(1, web))},
		{"peer removed", remove(client), set(client)},
		{"peer relabelled", set(stranger), set(client)},
		{
			"policy added",
			func(s *translate.State) { _ = s.SetPolicy(others) },
			func(s *translate.State) { s.DeletePolicy(types.NamespacedName{Namespace: "shop", Name: "third"}) },
		},
		{
			"policy changed",
			func(s *translate.State) { _ = s.SetPolicy(shopPolicy("first", 91)) },
			func(s *translate.State) { _ = s.SetPolicy(shopPolicy("first", 81)) },
		},
		{
			"policy of others added",
			func(s *translate.State) {
				_ = s.SetPolicy(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "crowd-1",
					Name: "deny"}})
			},
			func(s *translate.State) {
				s.DeletePolicy(types.NamespacedName{Namespace: "crowd-1", Name: "deny"})
			},
		},
		{
			"namespace relabelled",
			func(s *translate.State) { s.SetNamespace("small", map[string]string{"team": "a"}) },
			func(s *translate.State) { s.SetNamespace("small", nil) },
		},
		{"nothing new", set(client), set(client)},
	}
}

// cost is what an event costs: operations of its transaction, selectors' looks at labels, allocations.
type cost struct {
	operations, matches int
	allocations         float64
}

// costOf returns the cost of a turn, both ways.
func costOf(s *translate.State, looks *int, e turn) cost {
	commit := func() int {
		operations := 0
		for _, tx := range settled(s.Complete()) {
			operations += tx.Len()
		}
		return operations
	}
	var c cost
	both := func() {
		e.do(s)
		c.operations = commit()
		e.un(s)
		c.operations += commit()
	}
	both() // maps have grown
	*looks = 0
	both()
	c.matches = *looks
	c.allocations = testing.AllocsPerRun(20, both)
	return c
}

// TestEventBudget: ten times as many pods and policies around it do not change what an event costs.
func TestEventBudget(t *testing.T) {
	small, large := crowd(1_000).state(), crowd(10_000).state()
	var looksSmall, looksLarge int
	small.CountMatches(&looksSmall)
	large.CountMatches(&looksLarge)
	budgets := map[string]cost{ // of both ways together
		"local pod added":        {20, 0, 180},
		"local pod relabelled":   {16, 0, 200},
		"peer removed":           {4, 4, 60},
		"peer relabelled":        {2, 8, 70},
		"policy added":           {35, 4, 520},
		"policy changed":         {65, 2, 1200},
		"policy of others added": {0, 0, 20},
		"namespace relabelled":   {0, 8, 10},
		"nothing new":            {0, 0, 5},
	}
	for _, e := range turns() {
		at1k, at10k := costOf(small, &looksSmall, e), costOf(large, &looksLarge, e)
		t.Logf("%s: %+v at 1,000 pods, %+v at 10,000", e.name, at1k, at10k)
		budget := budgets[e.name]
		if at10k.operations > budget.operations || at10k.matches > budget.matches ||
			at10k.allocations > budget.allocations {
			t.Errorf("%s: %+v, budget %+v", e.name, at10k, budget)
		}
		if at1k.operations != at10k.operations || at1k.matches != at10k.matches ||
			at10k.allocations > 1.1*at1k.allocations+2 {
			t.Errorf("%s: %+v at 1,000 pods, %+v at 10,000", e.name, at1k, at10k)
		}
	}
}

// TestMemoryBudget: what a state keeps of a pod and of a policy that do not concern its node.
func TestMemoryBudget(t *testing.T) {
	for _, row := range []struct {
		scale
		perPod, perPolicy float64
	}{
		{scale{20_000, 2_000, false}, 420, 600},
		{scale{20_000, 2_000, true}, 960, 600}, // each pod has a label of its own
	} {
		perPod, perPolicy, _ := row.memory()
		t.Logf("%s: %.0f bytes a pod, %.0f a policy", row.scale, perPod, perPolicy)
		if perPod > row.perPod || perPolicy > row.perPolicy {
			t.Errorf("%s: %.0f bytes a pod, %.0f a policy, budget %.0f and %.0f", row.scale, perPod, perPolicy,
				row.perPod, row.perPolicy)
		}
	}
}

// TestPathBudget: a packet's longest way through an isolation does not grow with policies, rules, peers, ports and
// blocks.
func TestPathBudget(t *testing.T) {
	for _, size := range []int{1, 20, 1000} {
		s := translate.New("node", translate.Options{LogGroup: 86})
		for i := range size {
			s.SetNamespace(fmt.Sprintf("team-%d", i), map[string]string{"team": fmt.Sprint(i)})
			p := shopPod(i, map[string]string{"app": "web", "number": fmt.Sprint(i)})
			p.Namespace = fmt.Sprintf("team-%d", i)
			s.SetPod(p)
		}
		s.SetPod(shopPod(5000, map[string]string{"app": "web"}))
		for i := range size {
			if err := s.SetPolicy(everyKind(i)); err != nil {
				t.Fatal(err)
			}
		}
		table := s.Complete()
		for _, c := range table.Chains() {
			iso, ok := s.IsolationOf(c.Name)
			if !ok {
				continue
			}
			if len(iso.Policies) != size {
				t.Fatalf("chain of %d policies, want %d", len(iso.Policies), size)
			}
			rules, lookups := longest(table, c)
			t.Logf("%d policies: %d rules, %d lookups", size, rules, lookups)
			// For each family: three kinds of pods, four of namespaces, blocks, one set for what is always allowed, one
			// that counts.
			if rules > 32 || lookups > 2*(3+4+1+1+1) {
				t.Errorf("%d policies: %d rules, %d lookups on the longest way", size, rules, lookups)
			}
		}
	}
}

// everyKind is a policy with peers of every kind, of both families, on ports of every kind.
func everyKind(i int) *networkingv1.NetworkPolicy {
	port := func(first, last int32) networkingv1.NetworkPolicyPort {
		number := intstr.FromInt32(first)
		if first == last {
			return networkingv1.NetworkPolicyPort{Port: &number}
		}
		return networkingv1.NetworkPolicyPort{Port: &number, EndPort: &last}
	}
	labelled := func(key string, i int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: fmt.Sprint(i)}}
	}
	n := int32(i)
	peers := []networkingv1.NetworkPolicyPeer{
		{NamespaceSelector: labelled("team", i)},
		{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: labelled("number", i)},
		{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("172.%d.%d.0/24", 16+i/256, i%256),
			Except: []string{fmt.Sprintf("172.%d.%d.64/26", 16+i/256, i%256)}}},
		{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("2001:db8:%x::/48", i)}},
	}
	rules := []networkingv1.NetworkPolicyIngressRule{
		{Ports: []networkingv1.NetworkPolicyPort{port(5000+2*n, 5000+2*n)}}, // of everybody
		{From: peers[1:2]}, // every port
		{From: peers, Ports: []networkingv1.NetworkPolicyPort{port(80+n, 80+n)}},
		{From: peers, Ports: []networkingv1.NetworkPolicyPort{port(10000+10*n, 10005+10*n)}},
	}
	if i%2 == 1 { // not every pod on every port
		rules = append(rules[:1], rules[2:]...)
	}
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("policy-%d", i)},
		Spec:       networkingv1.NetworkPolicySpec{Ingress: rules},
	}
}

// longest returns the most rules and lookups that a packet meets on its way through a chain and those that it leads to.
func longest(t *nft.Table, c *nft.Chain) (rules, lookups int) {
	for _, r := range c.Rules {
		rules++
		targets := make(map[string]bool)
		for _, statement := range r.Statements {
			switch x := statement.(type) {
			case nft.Verdict:
				targets[x.Chain] = true
			case nft.Lookup:
				lookups++
				for _, e := range t.FindSet(x.Set).Elements() {
					targets[e.Verdict.Chain] = true
				}
			}
		}
		deepRules, deepLookups := 0, 0
		for name := range targets {
			if target := t.Chain(name); target != nil {
				n, l := longest(t, target)
				deepRules, deepLookups = max(deepRules, n), max(deepLookups, l)
			}
		}
		rules, lookups = rules+deepRules, lookups+deepLookups
	}
	return rules, lookups
}
