// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// TestExplainHostNetwork: the daemon answers about pods with hostNetwork as `netpold explain -f` does, and names them.
func TestExplainHostNetwork(t *testing.T) {
	l, _ := newTestLoop(t, kernelFunc(nil))
	c := &policy.Cluster{Namespaces: map[string]map[string]string{"ns": {}}}
	for name, ip := range map[string]string{
		"a": "10.0.0.1", "agent": "192.0.2.1", "proxy": "192.0.2.1", "dns": "192.0.2.1", "log": "192.0.2.1",
		"far": "192.0.2.2",
	} {
		node := "node"
		if name == "far" {
			node = "other"
		}
		c.Pods = append(c.Pods, policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: node,
			IPs: []netip.Addr{netip.MustParseAddr(ip)}, HostNetwork: name != "a",
		})
	}
	selects := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	c.Policies = append(c.Policies, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
		Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: selects}},
			Egress:  []networkingv1.NetworkPolicyEgressRule{{To: selects}},
		},
	})
	l.Update(func(o Objects) {
		o.SetNamespace("ns", nil)
		for _, p := range c.Pods {
			o.SetPod(p)
		}
		o.SetPolicy(c.Policies[0])
	})
	l.Synced()
	if err := l.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	const (
		four    = "(ns/agent, ns/dns, ns/log, 1 more)"
		refused = "192.0.2.1, as selectors do not match pods with hostNetwork " + four
	)
	for _, row := range []struct{ src, dst, want string }{
		{"ns/agent", "ns/a:80", "egress of 192.0.2.1: allowed: pods with hostNetwork are never isolated " + four},
		{"192.0.2.1", "10.0.0.1:80", "ingress of ns/a (10.0.0.1): allowed: a node's own traffic to its pods is always"},
		{"ns/far", "ns/a:80", "do not include 192.0.2.2, as selectors do not match pods with hostNetwork (ns/far)"},
		{"ns/a", "ns/proxy:80", "ingress of 192.0.2.1: allowed: pods with hostNetwork are never isolated " + four},
		{"10.0.0.1", "192.0.2.1:80", "spec.egress[0]: its peers do not include " + refused},
		{"ns/a", "ns/far:80", "ingress of 192.0.2.2: allowed: pods with hostNetwork are never isolated (ns/far)"},
		{"ns/far", "ns/proxy:80", "egress of 192.0.2.2: allowed: pods with hostNetwork are never isolated (ns/far)"},
		{"192.0.2.3", "ns/a:80", "egress of 192.0.2.3: allowed: no pod has this address"},
	} {
		e, err := l.Explain(t.Context(), row.src, row.dst, false)
		if err != nil || len(e.Flows) != 1 {
			t.Fatalf("%s -> %s: %+v, %v", row.src, row.dst, e, err)
		}
		flows, err := c.ParseFlows(row.src, row.dst)
		if err != nil {
			t.Fatal(err)
		}
		text := c.Describe(c.Explain(flows[0]))
		if e.Flows[0].Text != text {
			t.Errorf("%s -> %s: the daemon says\n%sand of manifests is said\n%s", row.src, row.dst,
				e.Flows[0].Text, text)
		}
		if !strings.Contains(text, row.want) {
			t.Errorf("%s -> %s: no %q in\n%s", row.src, row.dst, row.want, text)
		}
	}
}

// TestExplainChangesNothing: a question leaves pending work to the loop, which does it in portions. Until then the
// answer is by the current policies, and says that the rules are older.
func TestExplainChangesNothing(t *testing.T) {
	l := newIdleLoop(kernelFunc(nil), "node")
	setPodAt(l, "a", "10.0.0.1")
	l.Synced()
	if err := l.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	denyAll(l, "deny")
	e, err := l.Explain(t.Context(), "1.2.3.4", "ns/a:80", false)
	if err != nil {
		t.Fatal(err)
	}
	if e.Allowed || e.Flows[0].Nodes[0].Verdict != "accept" ||
		!strings.Contains(e.Flows[0].Text, "changes are in progress on node node") {
		t.Errorf("got %+v", e)
	}
	if !l.state.Incomplete() {
		t.Error("the question has completed the table")
	}
}
