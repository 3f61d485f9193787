// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// match is a rule for each kind of match, in a policy of either direction: PEERS is from or to.
func match(kind string) string {
	const client = `PEERS: [{podSelector: {matchLabels: {app: client}}}]`
	const blocks = `PEERS: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: "fd00::/8"}}]`
	const few, wide = `, ports: [{port: 80}, {protocol: UDP, port: 53}]`, `, ports: [{port: 1, endPort: 2000}]`
	return map[string]string{
		"single ports":   client + few,
		"pods":           client,
		"ranges":         client + wide,
		"more ranges":    client + `, ports: [{port: 1, endPort: 3000}]`,
		"higher ranges":  client + `, ports: [{port: 1500, endPort: 3000}]`,
		"named ports":    client + `, ports: [{port: http}]`,
		"blocks":         blocks,
		"blocks, ranges": blocks + wide,
		"smaller blocks": `PEERS: [{ipBlock: {cidr: 10.0.0.0/14, except: [10.1.0.0/16]}}, {ipBlock: {cidr: ` +
			`"fd00::/14"}}]`,
		"namespaces":            `PEERS: [{namespaceSelector: {}}]`,
		"namespaces, ports":     `PEERS: [{namespaceSelector: {}}]` + few,
		"namespaces, ranges":    `PEERS: [{namespaceSelector: {matchLabels: {team: shop}}}]` + wide,
		"any peer, ports":       strings.TrimPrefix(few, ", "),
		"any peer, ranges":      strings.TrimPrefix(wide, ", "),
		"renamed, single ports": strings.ReplaceAll(client, "client", "renamed") + few,
	}[kind]
}

// shopPolicy returns a policy for an app's pods with rules of these kinds of match, in both directions; "" is no rule.
func shopPolicy(t *testing.T, name, app string, kinds ...string) *networkingv1.NetworkPolicy {
	t.Helper()
	var rules []string
	for _, kind := range kinds {
		rules = append(rules, "{"+match(kind)+"}")
	}
	in := strings.Join(rules, ", ")
	spec := fmt.Sprintf(`{podSelector: {matchLabels: {app: %s}}, policyTypes: [Ingress, Egress], ingress: [%s], `+
		`egress: [%s]}`, app,
		strings.ReplaceAll(in, "PEERS", "from"), strings.ReplaceAll(in, "PEERS", "to"))
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
		t.Fatal(err)
	}
	return np
}

// churn is a change back and forth between two clusters: between policies, or between pods.
type churn struct {
	name string
	a, b []*networkingv1.NetworkPolicy
	pods [2][]policy.Pod // the client in a and in b; nil if it is the same
}

// churns returns churns for every kind of match.
func churns(t *testing.T) []churn {
	t.Helper()
	type policies = []*networkingv1.NetworkPolicy
	var all []churn
	add := func(name string, a, b policies) { all = append(all, churn{name: name, a: a, b: b}) }
	for _, kind := range []string{
		"single ports", "pods", "ranges", "named ports", "blocks", "blocks, ranges", "namespaces", "namespaces, ports",
		"any peer, ports", "any peer, ranges",
	} {
		p := shopPolicy(t, "web", "web", kind)
		add(kind+", and a policy without rules", policies{p}, policies{p, shopPolicy(t, "deny", "web")})
		add(kind+", audited or enforced", policies{audited(p)}, policies{p})
		add(kind+", and an audited one beside it", policies{p}, policies{p, audited(shopPolicy(t, "deny", "web"))})
		add(kind+", and the same of another pod", policies{p}, policies{p, shopPolicy(t, "other", "bystander", kind)})
	}
	deny := shopPolicy(t, "web", "web")
	add("a pod and itself", policies{deny}, policies{deny, shopPolicy(t, "deny", "web")})
	for _, pair := range [][2]string{
		{"single ports", "pods"},
		{"single ports", "ranges"},
		{"ranges", "more ranges"},
		{"ranges", "pods"},
		{"ranges", "namespaces, ranges"},
		{"ranges", "blocks, ranges"},
		{"ranges", "any peer, ranges"},
		{"pods", "blocks"},
		{"pods", "namespaces"},
		{"blocks", "smaller blocks"},
		{"blocks", "namespaces"},
		{"namespaces, ports", "any peer, ports"},
	} {
		name := pair[0] + " or " + pair[1]
		one, other := shopPolicy(t, "web", "web", pair[0]), shopPolicy(t, "web", "web", pair[1])
		rest := shopPolicy(t, "rest", "bystander", pair[0])
		add(name, policies{one}, policies{other})
		add(name+", of one policy or another", policies{one, rest},
			policies{rest, shopPolicy(t, "new", "web", pair[1])})
	}
	add("ranges, or others and any peer", policies{shopPolicy(t, "web", "web", "ranges")},
		policies{shopPolicy(t, "web", "web", "higher ranges", "any peer, ranges")})
	both := policies{shopPolicy(t, "web", "web", "ranges", "renamed, single ports")}
	all = append(all, churn{"a peer has other labels", both, both, [2][]policy.Pod{
		{pod("client", "node-2", 2, 1)}, {renamed(pod("client", "node-2", 2, 1))},
	}})
	return all
}

// pod returns a pod of that name and app, with an address of each family.
func pod(name, node string, subnet, n byte) policy.Pod {
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}, Node: node, Running: true,
		Labels: map[string]string{"app": name},
		IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, subnet, n}),
			netip.AddrFrom16([16]byte{0: 0xfd, 3: subnet, 15: n})},
		Ports: []policy.NamedPort{{Name: "http", Proto: nft.TCP, Number: 80}},
	}
}

func renamed(p policy.Pod) policy.Pod {
	p.Labels = map[string]string{"app": "renamed"}
	return p
}

// cluster returns one of the churn's two clusters.
func (c churn) cluster(i int) *policy.Cluster {
	client := c.pods[i]
	if client == nil {
		client = []policy.Pod{pod("client", "node-2", 2, 1)}
	}
	return &policy.Cluster{
		Namespaces: map[string]map[string]string{"shop": {"team": "shop"}},
		Pods: append(client, pod("web", "node-1", 1, 1), pod("bystander", "node-1", 1, 2),
			pod("other", "node-2", 2, 2)),
		Policies: [][]*networkingv1.NetworkPolicy{c.a, c.b}[i],
	}
}

// edit turns one cluster into the other, in one event.
func (c churn) edit(to int, o editor) {
	now, before := c.cluster(to), c.cluster(1-to)
	for _, p := range c.pods[to] {
		o.SetPod(p)
	}
	for _, p := range now.Policies {
		o.SetPolicy(p)
	}
	for _, p := range before.Policies {
		if !slices.ContainsFunc(now.Policies, func(q *networkingv1.NetworkPolicy) bool { return p.Name == q.Name }) {
			o.DeletePolicy(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
		}
	}
}

// editor is what a churn needs of [watch.Objects].
type editor interface {
	SetPod(p policy.Pod)
	SetPolicy(p *networkingv1.NetworkPolicy)
	DeletePolicy(name types.NamespacedName)
}
