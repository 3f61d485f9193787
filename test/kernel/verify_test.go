// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/watch"
)

// On ns/db, TCP 5432 and 6379 are open to ns/web, UDP 53 to a network except for a part of it, and nothing else.
const verified = `
{apiVersion: v1, kind: Namespace, metadata: {name: ns}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: ns, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ns, labels: {app: web}}
spec: {nodeName: worker-2, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: ns}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}, {port: 6379}]
  - from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.64/26]}}]
    ports: [{port: 53, protocol: UDP}]
`

// verifier is a loop that has committed its table, and does not repair what others change.
type verifier struct {
	*testing.T
	loop *watch.Loop
}

func newVerifier(t *testing.T) *verifier {
	t.Helper()
	netns.Enter(t)
	conn := open(t)
	v := &verifier{t, watch.NewLoop(stateOf(t, translate.Options{LogGroup: 86}, verified), watch.LoopConfig{
		Kernel: conn, Reads: conn.Reader, Log: slog.New(slog.DiscardHandler),
		Node: node, Source: "test",
	})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); v.loop.Run(ctx) }()
	v.loop.Synced()
	for v.loop.Status().Transactions == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	return v
}

// differences returns the parts of explain's answer about a flow that the kernel does not have.
func (v *verifier) differences(src, dst string) string {
	v.Helper()
	e, err := v.loop.Explain(v.Context(), src, dst, true)
	if err != nil {
		v.Fatal(err)
	}
	var found []string
	for _, flow := range e.Flows {
		node := flow.Nodes[0]
		for _, rule := range node.Rules {
			if rule.Missing {
				found = append(found, rule.Kernel)
			} else if !strings.Contains(rule.Kernel, "the rule has handle") {
				v.Errorf("%s: %s: not compared with the kernel: %q", rule.Chain, rule.Rule, rule.Kernel)
			}
		}
		found = append(found, node.Differs...)
	}
	return strings.Join(found, "\n")
}

// object returns the name of the first object whose name or first line in a listing matches.
func (v *verifier) object(pattern string) string {
	v.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(netns.NFT(v, "", "-a", "list", "table", "inet", "netpold"))
	if m == nil {
		v.Fatalf("no %s", pattern)
	}
	return m[1]
}

// Manual changes are named wherever they decide about the flow, and only those.
func TestVerify(t *testing.T) {
	const (
		web      = "10.0.0.2 10.0.0.1:5432"
		denied   = "198.51.100.7 10.0.0.1:5432"
		network  = "192.0.2.9 10.0.0.1:53/udp"
		excepted = "192.0.2.65 10.0.0.1:53/udp"
		free     = "198.51.100.7 10.0.0.2:80"
	)
	const portsSet = `set (ingress-[^ ]*-ports-4) {`
	const isolation = `(?m)chain (ingress-[^ ]*/db) {`
	handle := func(v *verifier, rule string) string { return v.object(`(?m)^\t\t` + rule + `.* # handle (\d+)$`) }
	ports := `ip saddr . meta l4proto . th dport @ingress`
	for _, test := range []struct {
		name, flow string
		change     func(v *verifier) string // a script
		want       string
	}{
		{"pod", web, func(*verifier) string {
			return "delete element inet netpold ingress-pods-4 { 10.0.0.1 }"
		}, "ingress-pods-4 does not have the element"},
		{"verdict of a pod", web, func(*verifier) string {
			return "delete element inet netpold ingress-pods-4 { 10.0.0.1 }; " +
				"add element inet netpold ingress-pods-4 { 10.0.0.1 : accept }"
		}, "ingress-pods-4 has { 10.0.0.1 : accept } instead of the element"},
		{"peer by port", web, func(v *verifier) string {
			return "delete element inet netpold " + v.object(portsSet) + " { 10.0.0.2 . tcp . 5432 }"
		}, "-ports-4 does not have the element"},
		{"another peer", denied, func(v *verifier) string {
			return "add element inet netpold " + v.object(portsSet) + " { 198.51.100.7 . tcp . 5432 }"
		}, "-ports-4 has an element for this flow that should not be there: { 198.51.100.7 . tcp . 5432 }"},
		{"network is smaller", network, func(v *verifier) string {
			name := v.object(`map (ingress-[^ ]*-blocks-4) {`)
			chain := v.object(`chain (ingress-ports-[^ ]*) {`)
			return "delete element inet netpold " + name + " { 192.0.2.0/26 }; " +
				"add element inet netpold " + name + " { 192.0.2.0/28 : jump " + chain + " }"
		}, "-blocks-4 has { 192.0.2.0/28 : jump ingress-ports-"},
		{"network is larger", excepted, func(v *verifier) string {
			return "add element inet netpold " + v.object(`map (ingress-[^ ]*-blocks-4) {`) +
				" { 192.0.2.64/28 : accept }"
		}, "should not be there: { 192.0.2.64/28 : accept }"},
		{"rule", web, func(v *verifier) string {
			return "replace rule inet netpold " + v.object(isolation) + " handle " + handle(v, ports) + " " +
				strings.Replace(ports, "@ingress", "@"+v.object(portsSet), 1) + " drop"
		}, "rule 1 of chain ingress-"},
		{"rule behind", denied, func(v *verifier) string {
			return "replace rule inet netpold deny-ingress handle " +
				v.object(`(?s)chain deny-ingress {.*?\tdrop # handle (\d+)`) + " accept"
		}, "rule 3 of chain deny-ingress"},
		{"rule of a port", network, func(v *verifier) string {
			return "replace rule inet netpold " + v.object(`chain (ingress-ports-[^ ]*) {`) +
				" handle " + handle(v, "udp dport 53") + " udp dport 54 accept"
		}, "of chain ingress-ports-"},
		{"rule of a chain that is only passed", denied, func(*verifier) string {
			return "insert rule inet netpold always-allowed accept"
		}, "chain always-allowed has 4 rules, not 3"},
		{"rule where no rule matches", free, func(*verifier) string {
			return "insert rule inet netpold forward drop"
		}, "chain forward has 6 rules, not 5"},
		{"no isolation", free, func(*verifier) string {
			return "add element inet netpold ingress-pods-4 { 10.0.0.2 : drop }"
		}, "ingress-pods-4 has an element for this flow that should not be there: { 10.0.0.2 : drop }"},
		{"no rules", web, func(*verifier) string { return "flush table inet netpold" }, "rules, not"},
		{"no table", denied, func(*verifier) string {
			return "delete table inet netpold"
		}, "does not have the element"},
		{"what is no matter", "", func(*verifier) string { return "add chain inet netpold stranger" }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVerifier(t)
			ask := func(flow string) string {
				src, dst, _ := strings.Cut(flow, " ")
				return v.differences(src, dst)
			}
			none := func(when string) {
				for _, flow := range []string{web, denied, network, excepted, free} {
					if got := ask(flow); got != "" {
						t.Errorf("%s %s: %s", flow, when, got)
					}
				}
			}
			none("before the change")
			netns.NFT(t, test.change(v), "-f", "-")
			if test.flow == "" {
				none("after a change that is no matter")
			} else if got := ask(test.flow); !strings.Contains(got, test.want) {
				t.Errorf("%s: got %q, want %q", test.flow, got, test.want)
			}
		})
	}
}

// readBack compares every rule and element in the kernel with the table.
func readBack(t *testing.T, conn *kernel.Conn, table *nft.Table) {
	t.Helper()
	for _, c := range table.Chains() {
		held, err := conn.Rules(t.Context(), table.Name, c)
		if err != nil || len(held) != len(c.Rules) {
			t.Fatalf("chain %s: %d rules, want %d: %v", c.Name, len(held), len(c.Rules), err)
		}
		for i, h := range held {
			if !h.Same {
				t.Errorf("chain %s: rule %d is read back differently from %s", c.Name, i+1, c.Rules[i])
			}
		}
	}
	for _, s := range table.Sets() {
		for _, e := range s.Elements() {
			if held, err := conn.Element(t.Context(), table.Name, s, e.Key); err != nil || held.Element != e {
				t.Errorf("set %s: %+v, want %+v: %v", s.Name, held.Element, e, err)
			}
		}
	}
}
