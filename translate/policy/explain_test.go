// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/translate/policy"
)

// These tests state what the API's text means, in its own terms and without the compiled rules, which fuzz_test.go
// tests.

// explainPod returns a running pod from "namespace/name", "key=value,…", "address …" and named ports as
// "http=tcp/8080".
func explainPod(name, labels, ips string, ports ...string) policy.Pod {
	p := policy.Pod{NamespacedName: parseName(name), Labels: parseLabels(labels), Running: true,
		Created: time.Unix(1000, 0)}
	for ip := range strings.FieldsSeq(ips) {
		p.IPs = append(p.IPs, netip.MustParseAddr(ip))
	}
	for _, text := range ports {
		port, service, _ := strings.Cut(text, "=")
		var f policy.Flow
		setService(&f, service)
		p.Ports = append(p.Ports, policy.NamedPort{Name: port, Proto: f.Proto, Number: f.DstPort})
	}
	return p
}

func parseName(text string) types.NamespacedName {
	namespace, name, _ := strings.Cut(text, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func parseLabels(text string) map[string]string {
	labels := map[string]string{}
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		k, v, _ := strings.Cut(pair, "=")
		labels[k] = v
	}
	return labels
}

// setService sets a flow's service: "tcp/80", "icmp/8" (a type), "gre".
func setService(f *policy.Flow, text string) {
	name, number, _ := strings.Cut(text, "/")
	n, _ := strconv.ParseUint(number, 10, 16)
	protocols := map[string]uint8{"tcp": policy.TCP, "udp": policy.UDP, "sctp": policy.SCTP, "icmp": policy.ICMP,
		"icmpv6": policy.ICMPv6, "gre": 47}
	f.Proto = protocols[name]
	if f.Proto == policy.ICMP || f.Proto == policy.ICMPv6 {
		f.ICMPType = uint8(n)
		return
	}
	f.DstPort = uint16(n)
}

// explainPolicy returns a policy from its spec in YAML.
func explainPolicy(t *testing.T, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	np := &networkingv1.NetworkPolicy{}
	np.Namespace, np.Name = parseName(name).Namespace, parseName(name).Name
	if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return np
}

// shop is the cluster of these tests. Policies select shop/db; the others are its peers.
func shop(policies ...*networkingv1.NetworkPolicy) *policy.Cluster {
	host := explainPod("shop/host", "app=web", "192.168.0.1", "http=tcp/80")
	host.HostNetwork = true
	return &policy.Cluster{
		Pods: []policy.Pod{
			explainPod("shop/db", "app=db", "10.0.0.2 fd00::2", "pg=tcp/5432", "http=tcp/80"),
			explainPod("shop/web", "app=web,tier=front", "10.0.0.1 fd00::1", "http=tcp/8080", "http=tcp/8081",
				"http=udp/8082", "pg=tcp/1"),
			explainPod("other/web", "app=web", "10.0.1.1", "http=tcp/80"),
			explainPod("other/bare", "", "10.0.1.2"),
			explainPod("lost/web", "app=web", "10.0.2.1", "http=tcp/9000"), // its namespace is not known
			host,
		},
		Namespaces: map[string]map[string]string{"shop": parseLabels("team=a"), "other": parseLabels("team=b,env=x")},
		Policies:   policies,
	}
}

// places are the addresses of the cluster and outside it, by name.
func places() map[string]string {
	return map[string]string{
		"db": "10.0.0.2", "web": "10.0.0.1", "web6": "fd00::1", "other/web": "10.0.1.1", "bare": "10.0.1.2",
		"lost": "10.0.2.1",
		"host": "192.168.0.1", "world": "203.0.113.9", "world6": "2001:db8::9",
	}
}

// flowOf returns the flow between shop/db, at its address of the place's family, and a place: to db for ingress, from
// it for egress.
func flowOf(d policy.Direction, place, service string) policy.Flow {
	peer := netip.MustParseAddr(places()[place])
	f := policy.Flow{Src: peer, Dst: netip.MustParseAddr("10.0.0.2")}
	if peer.Is6() {
		f.Dst = netip.MustParseAddr("fd00::2")
	}
	if d == policy.Egress {
		f.Src, f.Dst = f.Dst, f.Src
	}
	setService(&f, service)
	return f
}

// decision returns the decision of one direction.
func decision(e policy.Answer, d policy.Direction) policy.Decision {
	if d == policy.Egress {
		return e.Egress
	}
	return e.Ingress
}

// policyOn returns a policy on shop/db with one rule for a direction; PEERS in the rule stands for from or to.
func policyOn(t *testing.T, d policy.Direction, rules ...string) *networkingv1.NetworkPolicy {
	t.Helper()
	policyType := map[policy.Direction]string{policy.Ingress: "Ingress", policy.Egress: "Egress"}[d]
	return explainPolicy(t, "shop/p",
		fmt.Sprintf("{podSelector: {matchLabels: {app: db}}, policyTypes: [%s], %s: [%s]}",
			policyType, d, inDirection(d, strings.Join(rules, ", "))))
}

// inDirection replaces PEERS with the name of the peers' field.
func inDirection(d policy.Direction, text string) string {
	return strings.ReplaceAll(text, "PEERS",
		map[policy.Direction]string{policy.Ingress: "from", policy.Egress: "to"}[d])
}

// sorted sorts the words of a text.
func sorted(text string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(text))), " ")
}

// allowedPlaces returns the places, other than db itself, that db may exchange packets with.
func allowedPlaces(c *policy.Cluster, d policy.Direction, service string) string {
	var names []string
	for place := range places() {
		if place != "db" && decision(c.Explain(flowOf(d, place, service)), d).Allowed {
			names = append(names, place)
		}
	}
	return sorted(strings.Join(names, " "))
}

// TestExplainPeers: which places each peer list includes, the same in both directions.
func TestExplainPeers(t *testing.T) {
	const everyone = "bare host lost other/web web web6 world world6"
	for _, row := range []struct{ peers, want string }{
		// "If this field is empty or missing, this rule matches all sources (traffic not restricted by source)."
		{`{}`, everyone},
		{`{PEERS: []}`, everyone},
		// "if present but empty, it selects all pods" ... "in the policy's own namespace"
		{`{PEERS: [{podSelector: {}}]}`, "web web6"},
		{`{PEERS: [{podSelector: {matchLabels: {app: web}}}]}`, "web web6"},
		{`{PEERS: [{podSelector: {matchLabels: {app: web, tier: back}}}]}`, ""}, // "The requirements are ANDed."
		// namespaceSelector: "if present but empty, it selects all namespaces", "all pods in the namespaces"
		{`{PEERS: [{namespaceSelector: {}}]}`, "web web6 other/web bare"},
		{`{PEERS: [{namespaceSelector: {matchLabels: {team: b}}}]}`, "other/web bare"},
		// not lost: no labels are known
		{`{PEERS: [{namespaceSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}]}`, "web web6"},
		// both: "the pods matching podSelector in the namespaces selected by namespaceSelector"
		{`{PEERS: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}`, "web web6 other/web"},
		{`{PEERS: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {}}]}`, "other/web bare"},
		{`{PEERS: [{namespaceSelector: {matchLabels: {team: c}}, podSelector: {}}]}`, ""},
		// "Items in this list are combined using a logical OR operation."
		{`{PEERS: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: web}}}]}`,
			"web web6 other/web bare"},
		{`{PEERS: [{ipBlock: {cidr: 203.0.113.0/24}}, {podSelector: {}}]}`, "world web web6"},
		// An ipBlock matches addresses on the wire, including those of pods and nodes.
		{`{PEERS: [{ipBlock: {cidr: 0.0.0.0/0}}]}`, "bare host lost other/web web world"},
		{`{PEERS: [{ipBlock: {cidr: "::/0"}}]}`, "web6 world6"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8}}]}`, "bare lost other/web web"},
		{`{PEERS: [{ipBlock: {cidr: 192.168.0.1/32}}]}`, "host"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}]}`, "lost web"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.2/32, 10.0.2.0/24]}}]}`, "other/web web"},
		{`{PEERS: [{ipBlock: {cidr: "fd00::/8", except: ["fd00::/127"]}}]}`, ""},
		{`{PEERS: [{ipBlock: {cidr: "fd00::/8", except: ["fd00::4/126"]}}]}`, "web6"},
		// an except belongs to its block
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}, {ipBlock: {cidr: 10.0.1.2/32}}]}`,
			"bare lost web"},
		// likewise
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}, {namespaceSelector: {}}]}`,
			"bare lost other/web web web6"},
		// What the API server's older parser accepts: bits after the mask, leading zeros, IPv4-mapped addresses.
		{`{PEERS: [{ipBlock: {cidr: 10.0.1.77/24}}]}`, "bare other/web"},
		{`{PEERS: [{ipBlock: {cidr: 010.000.001.0/24}}]}`, "bare other/web"}, // decimal, never octal
		{`{PEERS: [{ipBlock: {cidr: 10.0.1.0/024}}]}`, "bare other/web"},
		{`{PEERS: [{ipBlock: {cidr: "::ffff:10.0.1.0/120"}}]}`, "bare other/web"},
		{`{PEERS: [{ipBlock: {cidr: "::ffff:010.0.1.0/120"}}]}`, "bare other/web"},
		{`{PEERS: [{ipBlock: {cidr: "::ffff:10.0.0.0/104", except: [10.0.1.0/24]}}]}`, "lost web"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: ["::ffff:10.0.1.0/120"]}}]}`, "lost web"},
		{`{PEERS: [{ipBlock: {cidr: "::ffff:0.0.0.0/96"}}]}`, "bare host lost other/web web world"},
		{`{PEERS: [{ipBlock: {cidr: "::ffff:10.0.0.0/95"}}]}`, ""}, // an IPv6 network where nothing is
		{`{PEERS: [{ipBlock: {cidr: "::ffff:10.0.0.0/0"}}]}`, "web6 world6"},
	} {
		for _, d := range policy.Directions() {
			got := allowedPlaces(shop(policyOn(t, d, row.peers)), d, "tcp/80")
			if diff := cmp.Diff(sorted(row.want), got); diff != "" {
				t.Errorf("%s %s: -want +got\n%s", d, row.peers, diff)
			}
		}
	}
}

// TestExplainPorts: which services each port list has, the same in both directions.
func TestExplainPorts(t *testing.T) {
	const every = "tcp/1 tcp/79 tcp/80 tcp/81 tcp/65535 udp/80 udp/81 sctp/80 icmp/8 gre"
	for _, row := range []struct{ ports, want string }{
		// "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
		{`{}`, every},
		{`{ports: []}`, every},
		{`{ports: [{port: 80}]}`, "tcp/80"}, // "If not specified, this field defaults to TCP."
		{`{ports: [{}]}`, "tcp/1 tcp/79 tcp/80 tcp/81 tcp/65535"}, // and "this matches all port names and numbers"
		{`{ports: [{protocol: UDP}]}`, "udp/80 udp/81"},
		{`{ports: [{protocol: UDP, port: 80}]}`, "udp/80"},
		{`{ports: [{protocol: SCTP, port: 80}]}`, "sctp/80"},
		{`{ports: [{protocol: "", port: 80}]}`, ""},
		// "Each item in this list is combined using a logical OR."
		{`{ports: [{port: 80}, {protocol: UDP, port: 81}]}`, "tcp/80 udp/81"},
		// "the range of ports from port to endPort if set, inclusive"
		{`{ports: [{port: 79, endPort: 80}]}`, "tcp/79 tcp/80"},
		{`{ports: [{port: 80, endPort: 80}]}`, "tcp/80"},
		{`{ports: [{port: 81, endPort: 65535, protocol: TCP}]}`, "tcp/81 tcp/65535"},
		{`{ports: [{port: 1, endPort: 65535, protocol: UDP}]}`, "udp/80 udp/81"},
		{`{ports: [{port: 1}, {port: 65535}]}`, "tcp/1 tcp/65535"},
		// ICMP has no ports: only a rule without ports allows it.
		{`{ports: [{protocol: TCP}, {protocol: UDP}, {protocol: SCTP}]}`, strings.TrimSuffix(every, " icmp/8 gre")},
		// A rule allows what its peers and its ports both match.
		{`{ports: [{port: 80}], PEERS: [{ipBlock: {cidr: 203.0.113.0/24}}]}`, "tcp/80"},
		{`{ports: [{port: 80}], PEERS: [{ipBlock: {cidr: 203.0.114.0/24}}]}`, ""},
		{`{ports: [{port: 80}], PEERS: [{podSelector: {}}]}`, ""},
	} {
		for _, d := range policy.Directions() {
			c := shop(policyOn(t, d, row.ports))
			var got []string
			for service := range strings.FieldsSeq(every) {
				if c.Explain(flowOf(d, "world", service)).Allowed {
					got = append(got, service)
				}
			}
			if diff := cmp.Diff(row.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("%s %s: -want +got\n%s", d, row.ports, diff)
			}
		}
	}
}

// TestExplainNamedPorts: "This can either be a numerical or named port on a pod": for ingress on the selected one, for
// egress on the peer.
func TestExplainNamedPorts(t *testing.T) {
	const in, out = policy.Ingress, policy.Egress
	for _, row := range []struct {
		d                   policy.Direction
		rule, service, want string
	}{
		{in, `{ports: [{port: http}]}`, "tcp/80", "bare host lost other/web web web6 world world6"},
		{in, `{ports: [{port: http}]}`, "tcp/8080", ""}, // that is web's, not db's
		{in, `{ports: [{port: http}]}`, "udp/80", ""},
		{in, `{ports: [{port: http, protocol: UDP}]}`, "udp/80", ""}, // db has the name for TCP alone
		{in, `{ports: [{port: nobody}]}`, "tcp/80", ""},
		// the selected pod has it, whoever the peer is
		{in, `{ports: [{port: http}], from: [{ipBlock: {cidr: 203.0.113.0/24}}]}`, "tcp/80", "world"},
		{in, `{ports: [{port: nobody}, {port: pg}]}`, "tcp/5432", "bare host lost other/web web web6 world world6"},
		{out, `{ports: [{port: http}]}`, "tcp/8080", "web web6"},
		{out, `{ports: [{port: http}]}`, "tcp/8081", "web web6"}, // a name may be of several containers
		{out, `{ports: [{port: http}]}`, "tcp/8082", ""},
		{out, `{ports: [{port: http, protocol: UDP}]}`, "udp/8082", "web web6"},
		{out, `{ports: [{port: http, protocol: UDP}]}`, "tcp/8080", ""},
		// not host, whose address is its node's, and not world, which is no pod
		{out, `{ports: [{port: http}]}`, "tcp/80", "other/web"},
		{out, `{ports: [{port: http}]}`, "tcp/9000", "lost"}, // without `to`, a pod of any namespace
		{out, `{ports: [{port: http}], to: [{namespaceSelector: {}}]}`, "tcp/9000", ""},
		{out, `{ports: [{port: http}], to: [{namespaceSelector: {}}]}`, "tcp/80", "other/web"},
		{out, `{ports: [{port: http}], to: [{podSelector: {}}]}`, "tcp/80", ""},
		{out, `{ports: [{port: http}], to: [{ipBlock: {cidr: 0.0.0.0/0}}]}`, "tcp/80", ""}, // a block has no names
		{out, `{ports: [{port: http}, {port: 80}], to: [{ipBlock: {cidr: 10.0.0.0/8}}]}`, "tcp/80",
			"bare lost other/web web"},
		{out, `{ports: [{port: http}], to: [{ipBlock: {cidr: 0.0.0.0/0}}, {podSelector: {}}]}`, "tcp/8080", "web web6"},
		// The block includes other/web and the selector web; a name counts for what a selector includes.
		{out, `{ports: [{port: http}], to: [{ipBlock: {cidr: 10.0.1.0/24}}, {podSelector: {}}]}`, "tcp/80", ""},
	} {
		got := allowedPlaces(shop(policyOn(t, row.d, row.rule)), row.d, row.service)
		if want := sorted(row.want); got != want {
			t.Errorf("%s %s %s: %s, want %s", row.d, row.rule, row.service, got, want)
		}
	}
}

// TestExplainSelectors: which labels each selector matches, as a peer and as the selector of a policy.
func TestExplainSelectors(t *testing.T) {
	pods := []string{"", "a=1", "a=2", "a=1,b=1", "b=1", "a="}
	for _, row := range []struct{ selector, want string }{
		{`{}`, "<> <a=1> <a=2> <a=1,b=1> <b=1> <a=>"}, // "An empty label selector matches all objects."
		{`{matchLabels: {a: "1"}}`, "<a=1> <a=1,b=1>"},
		{`{matchLabels: {a: ""}}`, "<a=>"},
		{`{matchLabels: {a: "1", b: "1"}}`, "<a=1,b=1>"}, // "The requirements are ANDed."
		{`{matchExpressions: [{key: a, operator: In, values: ["1", "2"]}]}`, "<a=1> <a=2> <a=1,b=1>"},
		{`{matchExpressions: [{key: a, operator: In, values: [""]}]}`, "<a=>"}, // not where the key is absent
		{`{matchExpressions: [{key: a, operator: NotIn, values: ["1"]}]}`, "<> <a=2> <b=1> <a=>"},
		{`{matchExpressions: [{key: a, operator: NotIn, values: ["1", "2", ""]}]}`, "<> <b=1>"},
		{`{matchExpressions: [{key: a, operator: Exists}]}`, "<a=1> <a=2> <a=1,b=1> <a=>"},
		{`{matchExpressions: [{key: a, operator: DoesNotExist}]}`, "<> <b=1>"},
		{`{matchExpressions: [{key: a, operator: Exists}, {key: b, operator: DoesNotExist}]}`, "<a=1> <a=2> <a=>"},
		{`{matchLabels: {b: "1"}, matchExpressions: [{key: a, operator: NotIn, values: ["1"]}]}`, "<b=1>"},
		{`{matchLabels: {a: "1"}, matchExpressions: [{key: a, operator: DoesNotExist}]}`, ""},
	} {
		asPeer := explainPolicy(t, "n/p",
			fmt.Sprintf(`{podSelector: {}, ingress: [{from: [{podSelector: %s}]}]}`, row.selector))
		asOwner := explainPolicy(t, "n/p", fmt.Sprintf(`{podSelector: %s}`, row.selector))
		var peers, owners []string
		for _, labels := range pods {
			c := &policy.Cluster{Pods: []policy.Pod{explainPod("n/a", labels, "10.0.0.1"),
				explainPod("n/b", "", "10.0.0.2")}}
			out := policy.Flow{Src: c.Pods[0].IPs[0], Dst: c.Pods[1].IPs[0], Proto: policy.TCP, DstPort: 80}
			in := policy.Flow{Src: out.Dst, Dst: out.Src, Proto: policy.TCP, DstPort: 80}
			c.Policies = []*networkingv1.NetworkPolicy{asPeer}
			if c.Explain(out).Ingress.Allowed {
				peers = append(peers, "<"+labels+">")
			}
			c.Policies = []*networkingv1.NetworkPolicy{asOwner}
			if !c.Explain(in).Ingress.Allowed {
				owners = append(owners, "<"+labels+">")
			}
		}
		if diff := cmp.Diff([]string{row.want, row.want},
			[]string{strings.Join(peers, " "), strings.Join(owners, " ")}); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.selector, diff)
		}
	}
}

// TestExplainInvalidRules: a rule with anything invalid allows nothing, but the policy isolates, and its other rules
// count. The reason for operators begins with the path of the field.
func TestExplainInvalidRules(t *testing.T) {
	const valid = `{PEERS: [{namespaceSelector: {}}, {ipBlock: {cidr: 203.0.113.9/32}}, {ipBlock: {cidr: ` +
		`"2001:db8::/32"}}], ports: [{port: 443}]}`
	for _, row := range []struct{ rule, field string }{
		// "protocol represents the protocol (TCP, UDP, or SCTP)"
		{`{ports: [{protocol: ICMP}]}`, "ports[0].protocol"},
		{`{ports: [{protocol: tcp, port: 80}]}`, "ports[0].protocol"},
		{`{ports: [{port: 80}, {protocol: GRE}]}`, "ports[1].protocol"},
		{`{ports: [{port: 0}]}`, "ports[0].port"},
		{`{ports: [{port: 65536}]}`, "ports[0].port"},
		{`{ports: [{port: -1}]}`, "ports[0].port"},
		{`{ports: [{port: 65616}]}`, "ports[0].port"}, // 65536 + 80
		{`{ports: [{port: "80"}]}`, "ports[0].port"},
		{`{ports: [{port: ""}]}`, "ports[0].port"},
		{`{ports: [{port: a--b}]}`, "ports[0].port"},
		{`{ports: [{port: HTTP}]}`, "ports[0].port"},
		{`{ports: [{port: longer-than-fifteen}]}`, "ports[0].port"},
		{`{ports: [{port: 80}, {port: "80"}]}`, "ports[1].port"},
		// "This field cannot be defined if the port field is not defined or if the port field is defined as a named
		// (string) port."
		{`{ports: [{endPort: 80}]}`, "ports[0].endPort"},
		{`{ports: [{protocol: TCP, endPort: 80}]}`, "ports[0].endPort"},
		{`{ports: [{port: http, endPort: 90}]}`, "ports[0].endPort"},
		// "The endPort must be equal or greater than port."
		{`{ports: [{port: 80, endPort: 79}]}`, "ports[0].endPort"},
		{`{ports: [{port: 80, endPort: 65536}]}`, "ports[0].endPort"},
		{`{ports: [{port: 0, endPort: 80}]}`, "ports[0].port"},
		{`{PEERS: [{}]}`, "PEERS[0]:"},
		{`{PEERS: [{namespaceSelector: {}}, {}]}`, "PEERS[1]:"},
		// ipBlock: "If this field is set then neither of the other fields can be."
		{`{PEERS: [{ipBlock: {cidr: 0.0.0.0/0}, podSelector: {}}]}`, "PEERS[0].ipBlock:"},
		{`{PEERS: [{ipBlock: {cidr: 0.0.0.0/0}, namespaceSelector: {}}]}`, "PEERS[0].ipBlock:"},
		{`{PEERS: [{ipBlock: {cidr: ""}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.1}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/33}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/-1}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0/8}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.256/8}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 0x10.0.0.0/8}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: "fd00::/129"}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: "fe80::1%eth0/64"}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: " 10.0.0.0/8"}}]}`, "PEERS[0].ipBlock.cidr"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: x}}]}`, "PEERS[1].ipBlock.cidr"},
		// "Except values will be rejected if they are outside the cidr range"
		{`{PEERS: [{ipBlock: {cidr: 0.0.0.0/0, except: [x]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0]}}]}`, "PEERS[0].ipBlock.except[1]"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}`, "PEERS[0].ipBlock.except[0]"},
		// not strictly inside
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [0.0.0.0/0]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{ipBlock: {cidr: 0.0.0.0/0, except: ["2001:db8::/32"]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{ipBlock: {cidr: "::/0", except: [10.0.0.0/8]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{ipBlock: {cidr: "::/0", except: ["::ffff:10.0.0.0/104"]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: ["::ffff:10.0.0.0/104"]}}]}`, "PEERS[0].ipBlock.except[0]"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: app, operator: Is, values: [web]}]}}]}`,
			"PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: app, operator: in, values: [web]}]}}]}`,
			"PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: no, operator: NotIn}]}}]}`, "PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: app, operator: In, values: []}]}}]}`,
			"PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [web]}]}}]}`,
			"PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: no, operator: DoesNotExist, values: [x]}]}}]}`,
			"PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: a b, operator: DoesNotExist}]}}]}`, "PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: "", operator: DoesNotExist}]}}]}`, "PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a b]}]}}]}`,
			"PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {matchLabels: {app: "a/b"}}}]}`, "PEERS[0].podSelector"},
		{`{PEERS: [{namespaceSelector: {matchExpressions: [{key: no, operator: NotIn}]}}]}`,
			"PEERS[0].namespaceSelector"},
		{`{PEERS: [{namespaceSelector: {matchExpressions: [{key: no, operator: NotIn}]}, podSelector: {}}]}`,
			"PEERS[0].namespaceSelector"},
		{`{PEERS: [{namespaceSelector: {}, podSelector: {matchLabels: {"-": x}}}]}`, "PEERS[0].podSelector"},
		{`{PEERS: [{podSelector: {}}, {namespaceSelector: {matchLabels: {a: "-"}}}]}`, "PEERS[1].namespaceSelector"},
	} {
		for _, d := range policy.Directions() {
			field := inDirection(d, row.field)
			alone, beside := shop(policyOn(t, d, row.rule)), shop(policyOn(t, d, row.rule, valid))
			for _, service := range []string{"tcp/80", "tcp/8080", "udp/80", "icmp/8", "gre"} {
				if got := allowedPlaces(alone, d, service); got != "" {
					t.Errorf("%s %s: allows %s of %s", d, row.rule, service, got)
				}
			}
			if got := allowedPlaces(beside, d, "tcp/443"); got != "bare other/web web web6 world world6" {
				t.Errorf("%s %s: the rule beside it allows %s", d, row.rule, got)
			}
			if near := alone.Nearest(flowOf(d, "web", "tcp/80"), d); near == nil ||
				!strings.Contains(near.Reason, ": "+field) {
				t.Errorf("%s %s: nearest is %+v, want %s", d, row.rule, near, field)
			}
		}
	}
}
