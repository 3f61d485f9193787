// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/policy"
)

// TestExplainPolicyTypes: "If this field is not specified, it will default based on the existence of ingress or egress
// rules".
func TestExplainPolicyTypes(t *testing.T) {
	for _, row := range []struct {
		spec            string
		ingress, egress string // "open" when not isolated; else "yes" or "no", whether tcp/80 is allowed
	}{
		{`{}`, "no", "open"}, // "all policies ... are assumed to affect ingress"
		{`{ingress: []}`, "no", "open"},
		{`{egress: []}`, "no", "open"},     // the API server sees no difference between an empty list and none
		{`{ingress: [{}]}`, "yes", "open"}, // "[{}]" is one rule for everything
		{`{egress: [{}]}`, "no", "yes"},    // "policies that contain an egress section are assumed to affect egress"
		{`{ingress: [{}], egress: [{ports: [{port: 81}]}]}`, "yes", "no"},
		{`{policyTypes: []}`, "no", "open"},
		{`{policyTypes: [Ingress]}`, "no", "open"},
		{`{policyTypes: [Egress]}`, "open", "no"}, // "that no egress is allowed"
		{`{policyTypes: [Ingress, Egress]}`, "no", "no"},
		{`{policyTypes: [Egress], egress: [{}]}`, "open", "yes"},
		// rules of a direction that is not listed count for nothing
		{`{policyTypes: [Ingress], egress: [{}]}`, "no", "open"},
		{`{policyTypes: [Egress], ingress: [{}]}`, "open", "no"},
		{`{policyTypes: [Other]}`, "no", "no"}, // not valid: isolates in both, its rules count
		{`{policyTypes: [ingress]}`, "no", "no"},
		{`{policyTypes: [""]}`, "no", "no"},
		{`{policyTypes: [Ingress, Other], ingress: [{}]}`, "yes", "no"},
		{`{policyTypes: [Other], egress: [{}]}`, "no", "yes"},
	} {
		c := shop(explainPolicy(t, "shop/p", row.spec))
		for d, want := range map[policy.Direction]string{policy.Ingress: row.ingress, policy.Egress: row.egress} {
			decided := decision(c.Explain(flowOf(d, "world", "tcp/80")), d)
			got := map[bool]string{true: "yes", false: "no"}[decided.Allowed]
			if !decided.Isolated {
				got = "open"
			}
			if got != want || !decided.Isolated && !decided.Allowed {
				t.Errorf("%s %s: %s, want %s: %+v", d, row.spec, got, want, decided)
			}
		}
	}
}

// TestExplainPodSelector: "podSelector selects the pods to which this NetworkPolicy object applies". What is invalid in
// it is left out, so that the policy isolates more and never fewer.
func TestExplainPodSelector(t *testing.T) {
	pods := map[string]string{"shop/db": "10.0.0.2", "shop/web": "10.0.0.1", "other/web": "10.0.1.1",
		"lost/web": "10.0.2.1", "shop/host": "192.168.0.1"}
	for _, row := range []struct{ policy, selector, want string }{
		// "An empty selector matches all pods in the policy's namespace."; never a hostNetwork pod
		{"shop/p", `{}`, "shop/db shop/web"},
		{"lost/p", `{}`, "lost/web"}, // a policy needs no labels of its namespace
		{"shop/p", `{matchLabels: {app: web}}`, "shop/web"},
		{"shop/p", `{matchLabels: {app: none}}`, ""},
		{"shop/p", `{matchLabels: {app: web}, matchExpressions: [{key: tier, operator: Is, values: [x]}]}`, "shop/web"},
		{"shop/p", `{matchExpressions: [{key: app, operator: In}]}`, "shop/db shop/web"},
		{"shop/p", `{matchExpressions: [{key: app, operator: NotIn}]}`, "shop/db shop/web"},
		{"shop/p", `{matchExpressions: [{key: none, operator: Exists, values: [x]}]}`, "shop/db shop/web"},
		{"shop/p", `{matchExpressions: [{key: app, operator: DoesNotExist, values: [x]}]}`, "shop/db shop/web"},
		{"shop/p", `{matchExpressions: [{key: app, operator: ""}]}`, "shop/db shop/web"},
		{"shop/p", `{matchExpressions: [{key: "a b", operator: Exists}, {key: tier, operator: Exists}]}`, "shop/web"},
		{"shop/p", `{matchExpressions: [{key: app, operator: In, values: ["a b"]}]}`, "shop/db shop/web"},
		{"shop/p", `{matchLabels: {app: "not/valid", tier: front}}`, "shop/web"},
		{"shop/p", `{matchLabels: {"/": x}}`, "shop/db shop/web"},
	} {
		c := shop(explainPolicy(t, row.policy, fmt.Sprintf(`{podSelector: %s}`, row.selector)))
		var got []string
		for pod, ip := range pods {
			in := c.Explain(policy.Flow{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr(ip),
				Proto: policy.TCP, DstPort: 80}).Ingress
			if in.Isolated {
				got = append(got, pod)
			}
			if in.Isolated == in.Allowed {
				t.Errorf("%s: isolated and allowed, or neither: %+v", pod, in)
			}
		}
		if diff := cmp.Diff(sorted(row.want), sorted(strings.Join(got, " "))); diff != "" {
			t.Errorf("%s %s: -want +got\n%s", row.policy, row.selector, diff)
		}
	}
}

// TestExplainAdditive: "the ingress rules for each are combined additively", and both directions must allow a flow.
func TestExplainAdditive(t *testing.T) {
	c := shop(
		explainPolicy(t, "shop/z-web",
			`{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 1}]}, {from: [{podSelector: {}}]}]}`),
		explainPolicy(t, "shop/a-none", `{}`),
		explainPolicy(t, "shop/m-other",
			`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: `+
				`{team: b}}}]}]}`),
		explainPolicy(t, "other/a-elsewhere", `{policyTypes: [Egress], podSelector: {matchLabels: {app: web}}}`),
	)
	for _, row := range []struct {
		place, service  string
		egress, ingress bool
		by              string
	}{
		{"web", "tcp/80", true, true, "shop/z-web spec.ingress[1]"},
		{"web", "tcp/1", true, true, "shop/z-web spec.ingress[0]"},
		{"bare", "tcp/80", true, true, "shop/m-other spec.ingress[0]"},
		{"bare", "tcp/1", true, true, "shop/m-other spec.ingress[0]"}, // of two that do, the first by name
		{"other/web", "tcp/80", false, true, "shop/m-other spec.ingress[0]"},
		{"lost", "tcp/80", true, false, "<nil>"},
		{"world", "icmp/8", true, false, "<nil>"},
	} {
		f := flowOf(policy.Ingress, row.place, row.service)
		e := c.Explain(f)
		by := "<nil>"
		if e.Ingress.AllowedBy != nil {
			by = e.Ingress.AllowedBy.String()
		}
		if e.Egress.Allowed != row.egress || e.Ingress.Allowed != row.ingress ||
			e.Allowed != (row.egress && row.ingress) || by != row.by {
			t.Errorf("%s: egress %t, ingress %t by %s; want %+v", f, e.Egress.Allowed, e.Ingress.Allowed, by, row)
		}
		if diff := cmp.Diff("[shop/a-none shop/m-other shop/z-web]", fmt.Sprint(e.Ingress.Policies)); diff != "" {
			t.Errorf("%s: -want +got\n%s", f, diff)
		}
		if e.Flow != f || e.Egress.Direction != policy.Egress || e.Ingress.Direction != policy.Ingress {
			t.Errorf("%s: the flow or a direction is lost: %+v", f, e)
		}
	}
}

// TestExplainExempt: what no policy can block, in a cluster where policies allow nothing.
func TestExplainExempt(t *testing.T) {
	const none = `{policyTypes: [Ingress, Egress]}`
	c := shop(explainPolicy(t, "shop/p", none), explainPolicy(t, "other/p", none), explainPolicy(t, "lost/p", none))
	const self, nd, noPod, host = "a pod cannot block access to itself", "IPv6 neighbour discovery is always allowed",
		"no pod has this address", "pods with hostNetwork are never isolated (shop/host)"
	for _, row := range []struct{ src, dst, service, egress, ingress string }{
		{"10.0.0.2", "10.0.0.2", "tcp/80", self, self},
		{"fd00::2", "fd00::2", "icmpv6/128", self, self},
		{"fd00::2", "::ffff:10.0.0.2", "udp/1", "", noPod}, // of an IPv6 packet it is no IPv4 address
		{"203.0.113.9", "203.0.113.9", "tcp/80", self, self},
		{"10.0.0.2", "fd00::2", "tcp/80", "", ""}, // one pod, but not one address: such a packet does not exist
		{"fd00::1", "fd00::2", "icmpv6/132", "", ""},
		{"fd00::1", "fd00::2", "icmpv6/133", nd, nd},
		{"fd00::1", "fd00::2", "icmpv6/135", nd, nd},
		{"fd00::1", "2001:db8::9", "icmpv6/136", nd, nd},
		{"fd00::1", "fd00::2", "icmpv6/137", nd, nd},
		{"fd00::1", "fd00::2", "icmpv6/138", "", ""},
		{"fd00::1", "fd00::2", "icmpv6/128", "", ""},
		{"10.0.0.1", "10.0.0.2", "icmpv6/135", "", ""}, // that protocol in IPv4 discovers nothing
		{"10.0.0.1", "10.0.0.2", "icmp/135", "", ""},
		{"203.0.113.9", "10.0.0.2", "tcp/80", noPod, ""},
		{"10.0.0.2", "203.0.113.9", "tcp/80", "", noPod},
		{"192.168.0.1", "10.0.0.2", "tcp/80", host, ""},
		{"10.0.0.2", "192.168.0.1", "tcp/80", "", host},
		{"192.168.0.1", "203.0.113.9", "tcp/80", host, noPod},
	} {
		f := policy.Flow{Src: netip.MustParseAddr(row.src), Dst: netip.MustParseAddr(row.dst)}
		setService(&f, row.service)
		e := c.Explain(f)
		if e.Egress.Exempt != row.egress || e.Ingress.Exempt != row.ingress {
			t.Errorf("%s: exempt %q, %q; want %q, %q", f, e.Egress.Exempt, e.Ingress.Exempt, row.egress, row.ingress)
		}
		if want := row.egress != "" && row.ingress != ""; e.Allowed != want {
			t.Errorf("%s: allowed %t, want %t", f, e.Allowed, want)
		}
		for _, d := range []policy.Decision{e.Egress, e.Ingress} {
			if (d.Exempt == noPod || d.Exempt == host) && (d.Pod != nil || d.Isolated || d.Policies != nil) ||
				d.Exempt == "" && d.Pod == nil || d.AllowedBy != nil {
				t.Errorf("%s: %+v", f, d)
			}
		}
	}
}

// TestExplainOwner: of the pods that claim an address, one owns it, for its isolation and as a peer.
func TestExplainOwner(t *testing.T) {
	const a, b = "10.0.0.1", "10.0.0.9"
	claim := func(name string, change func(*policy.Pod)) policy.Pod {
		p := explainPod(name, "pod="+parseName(name).Name, a)
		if change != nil {
			change(&p)
		}
		return p
	}
	later := func(p *policy.Pod) { p.Created = p.Created.Add(time.Second) }
	waiting := func(p *policy.Pod) { p.Running = false }
	starting := func(p *policy.Pod) { later(p); p.Running = false }
	leaving := func(p *policy.Pod) { p.Terminating = true }
	leavingLater := func(p *policy.Pod) { later(p); leaving(p) }
	host := func(p *policy.Pod) { later(p); p.HostNetwork = true }
	second := func(p *policy.Pod) { p.IPs = []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr(a)} }
	for _, row := range []struct {
		why  string
		pods []policy.Pod
		want string
	}{
		{"one", []policy.Pod{claim("n/p", nil)}, "n/p"},
		{"newer before running", []policy.Pod{claim("n/old", nil), claim("n/new", starting)}, "n/new"},
		{"running before name", []policy.Pod{claim("n/a", waiting), claim("n/b", nil)}, "n/b"},
		{"staying before newer", []policy.Pod{claim("n/new", leavingLater), claim("n/old", nil)}, "n/old"},
		{"staying before running", []policy.Pod{claim("n/a", leaving), claim("n/b", waiting)}, "n/b"},
		{"newer of two that leave", []policy.Pod{claim("n/a", leaving), claim("n/b", leavingLater)}, "n/b"},
		{"leaving alone", []policy.Pod{claim("n/a", leaving)}, "n/a"},
		{"newer before name", []policy.Pod{claim("n/a", nil), claim("n/b", later)}, "n/b"},
		{"name", []policy.Pod{claim("n/b", nil), claim("n/a", nil)}, "n/a"},
		{"namespace before name", []policy.Pod{claim("n/a", nil), claim("m/b", nil)}, "m/b"},
		{"not a hostNetwork pod", []policy.Pod{claim("n/a", host), claim("n/b", nil)}, "n/b"},
		{"not running alone", []policy.Pod{claim("n/a", waiting)}, "n/a"},
		{"any of its addresses", []policy.Pod{claim("n/a", second)}, "n/a"},
		{"only hostNetwork", []policy.Pod{claim("n/a", host)}, ""},
		{"no addresses", []policy.Pod{claim("n/a", func(p *policy.Pod) { p.IPs = nil })}, ""},
	} {
		c := &policy.Cluster{Pods: append(row.pods, explainPod("n/peer", "", b))}
		f := policy.Flow{Src: netip.MustParseAddr(b), Dst: netip.MustParseAddr(a), Proto: policy.TCP, DstPort: 80}
		got := ""
		if p := c.Explain(f).Ingress.Pod; p != nil {
			got = p.String()
		}
		if got != row.want {
			t.Errorf("%s: %q has it, want %q", row.why, got, row.want)
		}
		// As a peer, too, only the owner counts.
		for _, p := range row.pods {
			spec := fmt.Sprintf(`{policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: %s}}}]}]}`,
				p.Name)
			c.Policies = []*networkingv1.NetworkPolicy{explainPolicy(t, "n/q", spec)}
			if allowed := c.Explain(f).Egress.Allowed; allowed != (p.String() == row.want && p.Namespace == "n") {
				t.Errorf("%s: egress to %s is allowed: %t", row.why, p, allowed)
			}
		}
	}
}

// TestExplainNearest: of the rules that do not allow a flow, one that includes the peer comes before one that has the
// port.
func TestExplainNearest(t *testing.T) {
	const neither = `{PEERS: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 1}]}`
	const port = `{PEERS: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 80}]}`
	const peer = `{PEERS: [{namespaceSelector: {}}], ports: [{port: 1}]}`
	for _, row := range []struct {
		rules []string
		want  string
	}{
		{nil, "<nil>"},
		{[]string{neither}, "[0]"},
		{[]string{neither, port}, "[1]"},
		{[]string{neither, port, peer}, "[2]"},
		{[]string{peer, port, neither}, "[0]"},
		{[]string{peer, peer}, "[0]"},
	} {
		for _, d := range policy.Directions() {
			got, want := "<nil>", row.want
			if want != "<nil>" {
				want = fmt.Sprintf("shop/p spec.%s%s", d, want)
			}
			if near := shop(policyOn(t, d, row.rules...)).Nearest(flowOf(d, "web", "tcp/80"), d); near != nil {
				got = near.String()
			}
			if got != want {
				t.Errorf("%s %v: %s, want %s", d, row.rules, got, want)
			}
		}
	}
}

// TestNodeToOwnPod: "traffic to and from the node where a Pod is running is always allowed", of which netpold filters
// what the pod sends.
func TestNodeToOwnPod(t *testing.T) {
	for _, row := range []struct {
		host, pod string // their nodes
		allowed   bool
	}{{"a", "a", true}, {"a", "b", false}, {"", "", false}} {
		c := shop(policyOn(t, policy.Ingress, "{ports: [{port: 1}]}"))
		for i := range c.Pods {
			c.Pods[i].Node = row.pod
			if c.Pods[i].HostNetwork {
				c.Pods[i].Node = row.host
			}
		}
		flows, err := c.ParseFlows("shop/host", "shop/db:80")
		if err != nil {
			t.Fatal(err)
		}
		if e := c.Explain(flows[0]); e.Allowed != row.allowed {
			t.Errorf("from node %q to a pod of node %q: %s", row.host, row.pod, c.Describe(e))
		}
	}
}
