// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/policy"
)

// tiers is a cluster that the tests of ClusterNetworkPolicy share.
func tiers() *policy.Cluster {
	host := explainPod("mon/agent", "app=agent", "192.0.2.1")
	host.HostNetwork, host.Node = true, "n1"
	return &policy.Cluster{
		Namespaces: map[string]map[string]string{"shop": {"ns": "shop"}, "mon": {"ns": "mon"}},
		Pods: []policy.Pod{
			explainPod("shop/web", "app=web", "10.0.0.1 fd00::1", "http=tcp/8080", "dns=udp/53", "dns=tcp/53"),
			explainPod("shop/db", "app=db", "10.0.0.2 fd00::2", "http=tcp/9090"),
			explainPod("mon/prom", "app=prom", "10.0.0.3 fd00::3"),
			explainPod("lost/pod", "app=lost", "10.0.0.4"), // its namespace is not known
			host,
		},
		NodePeers: []policy.NodePeer{
			{Name: "n1", Labels: map[string]string{"role": "cp"}, Addresses: addresses("192.0.2.1 2001:db8::1")},
			{Name: "n2", Addresses: addresses("192.0.2.2")},
		},
	}
}

func addresses(text string) []netip.Addr {
	var all []netip.Addr
	for a := range strings.FieldsSeq(text) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// at is the address of an end in these tests.
func at(t *testing.T, c *policy.Cluster, end string, six bool) netip.Addr {
	for _, p := range c.Pods {
		if p.String() == end {
			i := 0
			if six {
				i = len(p.IPs) - 1
			}
			return p.IPs[i]
		}
	}
	a, err := netip.ParseAddr(end)
	if err != nil {
		t.Fatalf("%s: %v", end, err)
	}
	return a
}

// Selectors that the tests use.
const (
	everyone = "{namespaces: {}}"
	shopNS   = "{namespaces: {matchLabels: {ns: shop}}}"
	monNS    = "{namespaces: {matchLabels: {ns: mon}}}"
	webPods  = "{pods: {namespaceSelector: {matchLabels: {ns: shop}}, podSelector: {matchLabels: {app: web}}}}"
	dbPods   = "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}"
	world    = "{networks: [0.0.0.0/0, '::/0']}"
)

// spec writes a policy, as "Admin 5 subject | out Accept PEER [PROTOCOLS] | in Deny …": the rules in their order.
func spec(text string) string {
	head, rules, _ := strings.Cut(text, " | ")
	tier, rest, _ := strings.Cut(head, " ")
	priority, subject, _ := strings.Cut(rest, " ")
	out := "tier: " + tier + "\npriority: " + priority + "\nsubject: " + subject + "\n"
	var lists [2]string
	for rule := range strings.SplitSeq(rules, " | ") {
		way, rest, _ := strings.Cut(rule, " ")
		action, rest, _ := strings.Cut(rest, " ")
		peer, protocols, ported := strings.Cut(rest, " ports [")
		line := "- {name: r, action: " + action + ", PEERS: [" + peer + "]"
		if ported {
			line += ", protocols: [" + protocols
		}
		if line += "}\n"; way == "out" {
			lists[policy.Egress] += strings.Replace(line, "PEERS", "to", 1)
		} else {
			lists[policy.Ingress] += strings.Replace(line, "PEERS", "from", 1)
		}
	}
	return out + "egress:\n" + lists[policy.Egress] + "ingress:\n" + lists[policy.Ingress]
}

// tierCase is a question about policies, and the answer.
type tierCase struct {
	what     string
	policies string // a line for each: "name: " and what spec takes
	np       string // the spec of a NetworkPolicy shop/np
	flow     string // "src dst tcp/80", with " 6" for IPv6
	want     string // of the line of a direction, from the verdict on
}

func (row tierCase) explain(t *testing.T, change func(*policy.Flow)) (policy.Answer, string) {
	t.Helper()
	c := tiers()
	for line := range strings.Lines(row.policies) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			c.ClusterPolicies = append(c.ClusterPolicies, readClusterPolicy(t, name, spec(text)))
		}
	}
	if row.np != "" {
		c.Policies = []*networkingv1.NetworkPolicy{explainPolicy(t, "shop/np", row.np)}
	}
	fields := strings.Fields(row.flow)
	six := len(fields) > 3
	f := policy.Flow{Src: at(t, c, fields[0], six), Dst: at(t, c, fields[1], six)}
	setService(&f, fields[2])
	if change != nil {
		change(&f)
	}
	e := c.Explain(f)
	return e, c.Describe(e)
}

func checkTiers(t *testing.T, rows []tierCase) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			e, text := row.explain(t, nil)
			if e.Allowed != strings.HasPrefix(row.want, "allowed: ") || !strings.Contains(text, row.want) {
				t.Errorf("want %q in\n%s", row.want, text)
			}
		})
	}
}

const (
	denyIn  = "{podSelector: {}, policyTypes: [Ingress]}"
	denyOut = "{podSelector: {}, policyTypes: [Egress]}"
	openIn  = "{podSelector: {}, ingress: [{}]}"
)

// TestTiers is the order of evaluation, sentence by sentence.
func TestTiers(t *testing.T) {
	web, mon := "shop/web mon/prom tcp/80", "mon/prom shop/web tcp/80"
	checkTiers(t, []tierCase{
		{"no policy", "", "", web, "allowed: no policy isolates it for egress"},
		{"Admin denies, and NetworkPolicy is not asked", "a: Admin 1 " + shopNS + " | in Deny " + monNS, openIn, mon,
			"denied: Admin: a rule 1 `r` denies"},
		{"Admin accepts, and NetworkPolicy is not asked", "a: Admin 1 " + shopNS + " | in Accept " + monNS, denyIn, mon,
			"allowed: Admin: a rule 1 `r` accepts"},
		{"Admin accepts, and Baseline is not asked", "a: Admin 1 " + shopNS + " | in Accept " + monNS +
			"\nb: Baseline 1 " + shopNS + " | in Deny " + everyone, "", mon, "allowed: Admin: a rule 1 `r` accepts"},
		{"Pass goes on to NetworkPolicy", "a: Admin 1 " + shopNS + " | in Pass " + monNS + " | in Accept " + everyone,
			denyIn, mon, "denied: Admin: a rule 1 `r` passes; isolated by shop/np"},
		{"Pass skips later policies of the tier", "a: Admin 1 " + shopNS + " | in Pass " + monNS +
			"\nb: Admin 2 " + shopNS + " | in Deny " + monNS, "", mon,
			"allowed: Admin: a rule 1 `r` passes; no policy isolates it"},
		{"Pass of Admin without NetworkPolicy goes on to Baseline", "a: Admin 1 " + shopNS + " | in Pass " + monNS +
			"\nb: Baseline 1 " + shopNS + " | in Deny " + monNS, "", mon,
			"denied: Admin: a rule 1 `r` passes; no NetworkPolicy isolates it; Baseline: b rule 1 `r` denies"},
		{"no match goes on to NetworkPolicy", "a: Admin 1 " + shopNS + " | in Accept " + shopNS, denyIn, mon,
			"denied: isolated by shop/np"},
		{"what NetworkPolicy allows, Baseline does not deny", "b: Baseline 1 " + shopNS + " | in Deny " + everyone,
			openIn,
			mon, "allowed: isolated by shop/np; allowed by shop/np spec.ingress[0]"},
		{"what NetworkPolicy denies, Baseline does not accept", "b: Baseline 1 " + shopNS + " | in Accept " + everyone,
			denyIn, mon, "denied: isolated by shop/np"},
		{"isolated in one direction, Baseline counts in the other", "b: Baseline 1 " + shopNS + " | out Deny " + monNS,
			openIn, web, "denied: no NetworkPolicy isolates it; Baseline: b rule 1 `r` denies"},
		{"Baseline accepts before it denies", "b: Baseline 1 " + shopNS + " | in Accept " + monNS + " | in Deny " +
			everyone,
			"", mon, "allowed: no NetworkPolicy isolates it; Baseline: b rule 1 `r` accepts"},
		{"Pass of Baseline allows", "b: Baseline 1 " + shopNS + " | in Pass " + monNS + " | in Deny " + everyone, "",
			mon,
			"allowed: Baseline: b rule 1 `r` passes; no policy isolates it"},
		{"no match denies nothing", "b: Baseline 1 " + shopNS + " | in Accept " + shopNS, "", mon,
			"allowed: no policy isolates it for ingress"},
		{"lower priority first", "a: Admin 2 " + shopNS + " | in Deny " + monNS + "\nb: Admin 1 " + shopNS +
			" | in Accept " + monNS, "", mon, "allowed: Admin: b rule 1"},
		{"of equal priority the first name", "b: Admin 1 " + shopNS + " | in Deny " + monNS + "\na: Admin 1 " + shopNS +
			" | in Accept " + monNS, "", mon, "allowed: Admin: a rule 1"},
		{"rules in their order", "a: Admin 1 " + shopNS + " | in Accept " + shopNS + " | in Deny " + monNS +
			" | in Accept " + monNS, "", mon,
			"denied: Admin: a rule 2 `r` denies (nearest: Admin: a rule 1 `r`: its peers"},
		{"Accept of egress does not override the peer's ingress", "a: Admin 1 " + everyone + " | out Accept " +
			everyone,
			denyIn, mon, "denied: isolated by shop/np"},
		{"Accept of ingress does not override the peer's egress", "a: Admin 1 " + everyone + " | in Accept " + everyone,
			denyOut, web, "denied: isolated by shop/np"},
		{"the subject only", "a: Admin 1 " + webPods + " | in Deny " + everyone, "", "mon/prom shop/db tcp/80",
			"allowed: no policy isolates it"},
		{"a subject by pods", "a: Admin 1 " + webPods + " | in Deny " + everyone, "", mon, "denied: Admin: a rule 1"},
		{"a namespace that is not known has no subject", "a: Admin 1 " + everyone + " | in Deny " + everyone, "",
			"mon/prom lost/pod tcp/80", "allowed: no policy isolates it"},
		{"and no peer", "a: Admin 1 " + shopNS + " | in Deny " + everyone, "", "lost/pod shop/web tcp/80",
			"allowed: no policy isolates it"},
		{"hostNetwork pods are no subject", "a: Admin 1 " + everyone + " | in Deny " + everyone, "",
			"mon/prom mon/agent tcp/80", "allowed: pods with hostNetwork are never isolated"},
		{"and no peer of ingress", "a: Admin 1 " + shopNS + " | in Deny " + everyone, "", "mon/agent shop/web tcp/80",
			"allowed: no policy isolates it"},
		{"and no peer of egress", "a: Admin 1 " + shopNS + " | out Deny " + everyone, "", "shop/web mon/agent tcp/80",
			"allowed: no policy isolates it"},
	})
}

// TestTierPeers is what peers and protocols match.
func TestTierPeers(t *testing.T) {
	a := "a: Admin 1 " + shopNS + " | out Deny "
	in := "a: Admin 1 " + webPods + " | in Deny "
	nodes, cp := "{nodes: {}}", "{nodes: {matchLabels: {role: cp}}}"
	tcp80, icmp := "[{tcp: {destinationPort: {number: 80}}}]", "203.0.113.9 icmp/8"
	denied, open := "denied: Admin: a rule 1", "allowed: no policy isolates it for egress"
	checkTiers(t, []tierCase{
		{"pods", a + dbPods, "", "shop/web shop/db tcp/80", denied},
		{"others", a + dbPods, "", "shop/web mon/prom tcp/80", open},
		{"pods by IPv6", a + dbPods, "", "shop/web shop/db tcp/80 6", denied},
		{"all nodes", a + nodes, "", "shop/web 192.0.2.2 tcp/80", denied},
		{"nodes by labels", a + cp, "", "shop/web 192.0.2.1 tcp/80", denied},
		{"by IPv6", a + cp, "", "shop/web 2001:db8::1 tcp/80 6", denied},
		{"other nodes", a + cp, "", "shop/web 192.0.2.2 tcp/80", open},
		{"what is no node", a + nodes, "", "shop/web 203.0.113.9 tcp/80", open},
		{"a host pod's address is its node's", a + nodes, "", "shop/web mon/agent tcp/80", denied},
		{"networks", a + world, "", "shop/web 203.0.113.9 tcp/80", denied},
		{"networks of IPv6", a + world, "", "shop/web 2001:db8::9 tcp/80 6", denied},
		{"networks have pods", a + world, "", "shop/web mon/prom tcp/80", denied},
		{"networks have no other family", a + "{networks: [0.0.0.0/0]}", "", "shop/web mon/prom tcp/80 6", open},
		{"networks match ICMP", a + world, "", "shop/web " + icmp, denied},
		{"networks with host bits", a + "{networks: [203.0.113.200/24]}", "", "shop/web 203.0.113.9 tcp/80", denied},
		{"every protocol", a + everyone, "", "shop/web mon/prom gre", denied},
		{"and ICMP", a + everyone, "", "shop/web mon/prom icmp/8", denied},
		{"one port", a + everyone + " ports " + tcp80, "", "shop/web mon/prom tcp/80", denied},
		{"another port", a + everyone + " ports " + tcp80, "", "shop/web mon/prom tcp/81", open},
		{"another protocol", a + everyone + " ports " + tcp80, "", "shop/web mon/prom udp/80", open},
		{"not ICMP", a + world + " ports " + tcp80, "", "shop/web " + icmp, open},
		{"first of a range", a + everyone + " ports [{udp: {destinationPort: {range: {start: 7, end: 9}}}}]", "",
			"shop/web mon/prom udp/7", denied},
		{"last of a range", a + everyone + " ports [{sctp: {destinationPort: {range: {start: 7, end: 9}}}}]", "",
			"shop/web mon/prom sctp/9", denied},
		{"beyond a range", a + everyone + " ports [{udp: {destinationPort: {range: {start: 7, end: 9}}}}]", "",
			"shop/web mon/prom udp/10", open},
		{"a name is the subject's of ingress", in + everyone + " ports [{destinationNamedPort: http}]", "",
			"mon/prom shop/web tcp/8080", denied},
		{"and has another number elsewhere", in + everyone + " ports [{destinationNamedPort: http}]", "",
			"mon/prom shop/web tcp/9090", "allowed: no policy isolates it for ingress"},
		{"a name is the peer's of egress", a + everyone + " ports [{destinationNamedPort: http}]", "",
			"shop/web shop/db tcp/9090",
			denied},
		{"a name of two protocols: TCP", in + everyone + " ports [{destinationNamedPort: dns}]", "",
			"mon/prom shop/web tcp/53",
			denied},
		{"a name of two protocols: UDP", in + everyone + " ports [{destinationNamedPort: dns}]", "",
			"mon/prom shop/web udp/53",
			denied},
		{"a name that no pod has", a + everyone + " ports [{destinationNamedPort: none}]", "",
			"shop/web shop/db tcp/80", open},
		{"no protocols", a + everyone + " ports []", "", "shop/web mon/prom gre", denied},
		{"nearest by port", "a: Admin 1 " + shopNS + " | out Accept " + everyone + " ports " + tcp80 +
			" | out Deny " + everyone, "",
			"shop/web mon/prom tcp/81",
			"denied: Admin: a rule 2 `r` denies (nearest: Admin: a rule 1 `r`: it accepts TCP 80, not TCP 81)"},
	})
}

// TestTiersFailClosed: an unknown or invalid rule accepts nothing, and denies everything instead of denying or passing;
// earlier rules count.
func TestTiersFailClosed(t *testing.T) {
	icmp := "shop/web 203.0.113.9 icmp/8"
	parts := map[string]string{
		"an unknown peer":              "{services: {}}",
		"an empty peer":                "{}",
		"two kinds of peers":           "{namespaces: {}, nodes: {}}",
		"an unknown peer among others": "{networks: [192.0.2.0/24]}, {services: {}}",
		"an unknown field of a peer":   "{pods: {namespaceSelector: {}, podSelector: {}, accounts: {}}}",
		"domainNames":                  "{domainNames: [example.com]}",
		"no peer":                      "",
		"a selector that is not valid": "{namespaces: {matchExpressions: [{key: a, operator: Near}]}}",
		"no CIDR":                      "{networks: [10.0.0.0/33]}",
		"an IPv4-mapped CIDR":          "{networks: ['::ffff:10.0.0.0/104']}",
		"an unknown protocol":          everyone + " ports [{icmp: {}}]",
		"an unknown one among others":  everyone + " ports [{tcp: {destinationPort: {number: 9}}}, {icmp: {}}]",
		"an empty protocol":            everyone + " ports [{}]",
		"an empty TCP":                 everyone + " ports [{tcp: {}}]",
		"an unknown field of TCP":      everyone + " ports [{tcp: {flags: syn}}]",
		"two protocols": everyone +
			" ports [{tcp: {destinationPort: {number: 9}}, destinationNamedPort: a}]",
		"no number": everyone + " ports [{tcp: {destinationPort: {}}}]",
		"a number and a range": everyone +
			" ports [{tcp: {destinationPort: {number: 9, range: {start: 1, end: 2}}}}]",
		"a number that is none":    everyone + " ports [{tcp: {destinationPort: {number: 65536}}}]",
		"a range backwards":        everyone + " ports [{tcp: {destinationPort: {range: {start: 9, end: 9}}}}]",
		"a range beyond the last":  everyone + " ports [{tcp: {destinationPort: {range: {start: 9, end: 65536}}}}]",
		"a named port of networks": world + " ports [{destinationNamedPort: http}]",
		"a named port of nodes":    "{nodes: {}} ports [{destinationNamedPort: http}]",
		"another type":             everyone + " ports [{tcp: {destinationPort: {number: '80'}}}]",
	}
	for what, part := range parts {
		checkTiers(t, []tierCase{
			{what + ": Accept", "a: Admin 1 " + shopNS + " | out Accept " + part, "", icmp,
				"allowed: no policy isolates it"},
			{what + ": Deny", "a: Admin 1 " + shopNS + " | out Deny " + part, "", icmp,
				"denied: Admin: a rule 1 `r` is not valid and denies everything: spec.egress[0]"},
			{what + ": Pass", "a: Admin 1 " + shopNS + " | out Pass " + part, "", icmp,
				"denied: Admin: a rule 1 `r` is not valid and denies everything: spec.egress[0]"},
			{what + ": an earlier rule", "a: Admin 1 " + shopNS + " | out Accept " + world + " | out Deny " + part,
				"", icmp,
				"allowed: Admin: a rule 1"},
			{what + ": the other direction", "a: Admin 1 " + shopNS + " | out Deny " + part, "",
				"203.0.113.9 shop/web icmp/8", "allowed: no policy isolates it for ingress"},
			{what + ": another pod", "a: Admin 1 " + shopNS + " | out Deny " + part, "", "mon/prom 203.0.113.9 icmp/8",
				"allowed: no policy isolates it for egress"},
		})
	}
	checkTiers(t, []tierCase{
		{"an unknown action", "a: Admin 1 " + shopNS + " | out Log " + monNS, "", icmp,
			"denied: Admin: a rule 1 `r` is not valid and denies everything: spec.egress[0].action: \"Log\""},
		{"an unknown tier", "a: Developer 1 " + shopNS + " | out Deny " + monNS, denyIn, icmp,
			"denied: Admin: a rule 1 `r` is not valid and denies everything: spec.tier"},
		{"an unknown tier accepts nothing", "a: Developer 1 " + shopNS + " | out Accept " + world, denyOut, icmp,
			"denied: isolated by shop/np"},
		{"an unknown subject selects no pod", "a: Admin 1 {services: {}} | out Deny " + world, "", icmp,
			"allowed: no policy isolates it"},
		{"an unknown requirement of the subject selects no fewer",
			"a: Admin 1 {namespaces: {matchExpressions: [{key: a, operator: Near}]}} | out Deny " + monNS, "", icmp,
			"denied: Admin: a rule 1 `r` is not valid and denies everything: spec.subject.namespaces: unknown "},
		{"two subjects", "a: Admin 1 {namespaces: {}, pods: {namespaceSelector: {}, podSelector: {}}} | out Pass " +
			monNS, "",
			icmp, "denied: Admin: a rule 1 `r` is not valid and denies everything: spec.subject: it has more"},
		{"an unknown field of the subject", "a: Admin 1 {namespaces: {}, x: {}} | out Deny " + monNS, "", icmp,
			"denied: Admin: a rule 1 `r` is not valid and denies everything: spec.subject.x: unknown field"},
		{"Baseline fails closed, too", "b: Baseline 1 " + shopNS + " | out Pass {x: {}}", "", icmp,
			"denied: no NetworkPolicy isolates it; Baseline: b rule 1 `r` is not valid"},
		{"behind NetworkPolicy", "b: Baseline 1 " + shopNS + " | in Deny {x: {}}", openIn, "mon/prom shop/web tcp/80",
			"allowed: isolated by shop/np"},
		{"the rule that accepts nothing is the nearest", "a: Admin 1 " + shopNS +
			" | out Accept {networks: [x]} | out Deny " + world, "", icmp,
			"denied: Admin: a rule 2 `r` denies (nearest: Admin: a rule 1 `r`: the rule is not valid " +
				"and matches nothing: spec.egress[0].to[0]."},
	})
}

// TestTierExempt: what no policy can block.
func TestTierExempt(t *testing.T) {
	deny := "a: Admin 1 " + everyone + " | in Deny " + everyone + " | out Deny " + world
	row := tierCase{policies: deny, flow: "shop/web shop/web tcp/80"}
	if e, text := row.explain(t, nil); !e.Allowed {
		t.Errorf("a pod to its own address:\n%s", text)
	}
	if e, text := row.explain(t, func(f *policy.Flow) { f.Service = true }); e.Allowed ||
		!strings.Contains(text, "egress of shop/web (10.0.0.1): denied: Admin: a rule 1") {
		t.Errorf("a pod to itself through a Service:\n%s", text)
	}
	row.policies, row.np = "", "{podSelector: {}, policyTypes: [Ingress, Egress]}"
	if e, text := row.explain(t, func(f *policy.Flow) { f.Service = true }); !e.Allowed {
		t.Errorf("NetworkPolicy, a pod to itself through a Service:\n%s", text)
	}
	row = tierCase{policies: deny, flow: "shop/web shop/db icmpv6/135 6"}
	if e, text := row.explain(t, nil); !e.Allowed {
		t.Errorf("neighbour discovery:\n%s", text)
	}
	row.flow = "shop/web 192.0.2.1 tcp/80"
	if e, text := row.explain(t, func(f *policy.Flow) { f.ToNode = true }); e.Allowed || !e.Ingress.Allowed {
		t.Errorf("a pod to its node:\n%s", text)
	}
}

// TestTies: policies that only their names put in an order are named.
func TestTies(t *testing.T) {
	c := tiers()
	for name, text := range map[string]string{"b": "Admin 1", "a": "Admin 1", "c": "Baseline 1", "d": "Admin 2"} {
		c.ClusterPolicies = append(c.ClusterPolicies, readClusterPolicy(t, name, spec(text+" "+shopNS)))
	}
	if diff := cmp.Diff([][]string{{"a", "b"}}, c.Ties()); diff != "" {
		t.Errorf("ties (-want +got):\n%s", diff)
	}
}

// TestClusterFaults: what is invalid is reported once, with its consequence.
func TestClusterFaults(t *testing.T) {
	c := tiers()
	c.ClusterPolicies = []policy.ClusterPolicy{
		readClusterPolicy(t, "a", spec("Admin 1 "+shopNS+" | out Accept {} | out Deny {} | in Deny "+everyone)),
		readClusterPolicy(t, "b", spec("Late 1 "+shopNS+" | out Accept {} | out Deny {}")),
	}
	var got []string
	for _, err := range c.Faults() {
		got = append(got, err.Error())
	}
	want := []string{
		"ClusterNetworkPolicy a: spec.egress[0].to[0]: no field of it is known; the rule accepts nothing",
		"ClusterNetworkPolicy a: spec.egress[1].to[0]: no field of it is known; the rule denies everything",
		"ClusterNetworkPolicy b: spec.tier: \"Late\" is not Admin or Baseline; no rule of it accepts anything, and " +
			"every other denies everything",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}
