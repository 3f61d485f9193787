// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/translate/policy"
)

// readClusterPolicy returns a ClusterNetworkPolicy from its spec in YAML.
func readClusterPolicy(t testing.TB, name, spec string) policy.ClusterPolicy {
	t.Helper()
	text, err := yaml.YAMLToJSON([]byte(spec))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	text = fmt.Appendf(nil, `{"metadata": {"name": %q, "uid": "u-1"}, "spec": %s}`, name, text)
	p, err := policy.ReadClusterPolicy(text)
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return p
}

// TestReadClusterPolicy: what a typed client would ignore silently is named, with its rule.
func TestReadClusterPolicy(t *testing.T) {
	p := readClusterPolicy(t, "guard", `
tier: Admin
priority: 7
sunset: tomorrow
subject: {namespaces: {}, services: {}}
ingress:
- action: Deny
  from: [{namespaces: {}}]
- action: Accept
  from: [{clusters: {}}, {pods: {namespaceSelector: {}, podSelector: {}, podNames: [a]}}]
  protocols: [{icmp: {}}, {tcp: {destinationPort: {number: 80, name: web}}}]
egress:
- action: Deny
  to: [{networks: [10.0.0.0/8]}]
  protocols: [{tcp: {destinationPort: {number: "80"}}}]
- null
`)
	var got []string
	for _, u := range p.Unread {
		rule := fmt.Sprintf("%s %d", u.Direction, u.Index)
		if u.Index < 0 {
			rule = "outside"
		}
		got = append(got, fmt.Sprintf("%s: %s: %s", rule, u.Path, u.Problem))
	}
	want := []string{
		"outside: spec.sunset: unknown field",
		"outside: spec.subject.services: unknown field",
		"egress 0: spec.egress[0].protocols.tcp.destinationPort.number: want another type, not string",
		"ingress 1: spec.ingress[1].from[0].clusters: unknown field",
		"ingress 1: spec.ingress[1].from[1].pods.podNames: unknown field",
		"ingress 1: spec.ingress[1].protocols[0].icmp: unknown field",
		"ingress 1: spec.ingress[1].protocols[1].tcp.destinationPort.name: unknown field",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unread (-want +got):\n%s", diff)
	}
	if p.Name != "guard" || p.UID != "u-1" || p.Spec.Tier != "Admin" || p.Spec.Priority != 7 ||
		len(p.Spec.Ingress) != 2 || len(p.Spec.Egress) != 2 || len(p.Spec.Ingress[1].From) != 2 {
		t.Errorf("read as %+v", p.ClusterNetworkPolicy)
	}
	if _, err := policy.ReadClusterPolicy([]byte(`{"metadata": {}}`)); err == nil {
		t.Error("a policy without a name is read")
	}
}

// TestClusterRuleText: text in a policy cannot break the line that quotes it.
func TestClusterRuleText(t *testing.T) {
	p := readClusterPolicy(t, "guard", `{tier: Admin, subject: {namespaces: {}}, egress: [
		{name: "all denied\n2026 INFO allowed", action: Deny, to: [{"a\nb": 1}]},
		{name: "to\x60shop\x60", action: Accept, to: [{namespaces: {}}]},
		{name: to shop, action: Accept, to: [{namespaces: {}}]}]}`)
	var got []string
	for _, r := range p.Rules(policy.Egress) {
		got = append(got, r.String()+r.Fault)
	}
	want := []string{
		`Admin: guard rule 1 "all denied\n2026 INFO allowed"spec.egress[0]."to[0].a\nb": unknown field`,
		"Admin: guard rule 2 \"to`shop`\"", "Admin: guard rule 3 `to shop`",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// TestReadClusterPolicyMany: although the strict decoder reports only a hundred fields, no rule with one is missed.
func TestReadClusterPolicyMany(t *testing.T) {
	rule := "- {action: Deny, from: [" + strings.Repeat("{clusters: {}}, ", 25) + "]}\n"
	p := readClusterPolicy(t, "guard", "ingress:\n"+strings.Repeat(rule, 25))
	rules := make(map[int]bool)
	for _, u := range p.Unread {
		rules[u.Index] = true
	}
	if len(rules) != 25 {
		t.Errorf("%d rules of 25 are known to have an unknown peer", len(rules))
	}
}

// TestNodePeer: of the addresses of a node, those of two types count.
func TestNodePeer(t *testing.T) {
	n, err := policy.NodePeerFrom(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"a": "b"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			{Type: corev1.NodeExternalIP, Address: "2001:db8::1"}, {Type: corev1.NodeInternalIP, Address: "n1"},
			{Type: corev1.NodeInternalDNS, Address: "192.0.2.9"},
		}},
	})
	want := policy.NodePeer{Name: "n1", Labels: map[string]string{"a": "b"},
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
	if diff := cmp.Diff(want, n, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	if err == nil || !strings.Contains(err.Error(), "status.addresses[3]") {
		t.Errorf("an address that is none: %v", err)
	}
}
