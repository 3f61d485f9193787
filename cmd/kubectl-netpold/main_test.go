// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/test/harness/kubelet"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/explain"
	"github.com/netpold/netpold/watch/preflight"
)

const shop = `
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: a}]}
status: {phase: Running, podIP: 10.0.1.1, podIPs: [{ip: 10.0.1.1}]}
---
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: a}]}
status: {phase: Running, podIP: 10.0.2.1, podIPs: [{ip: 10.0.2.1}]}
---
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
---
kind: NetworkPolicy
metadata: {name: all, namespace: shop}
spec: {podSelector: {}, ingress: [{}]}
---
kind: NetworkPolicy
metadata: {name: nobody, namespace: shop}
spec: {podSelector: {matchLabels: {app: nobody}}}
`

// text returns a value as JSON.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// expect runs a command, and checks its exit code and some of its output; "not: …" is what it must not print.
func (s *server) expect(exit int, args string, want ...string) {
	s.Helper()
	stdout, stderr, got := s.run(strings.Fields(args)...)
	if got != exit {
		s.Errorf("%s: exit %d, want %d", args, got, exit)
	}
	for _, w := range want {
		if not, no := strings.CutPrefix(w, "not: "); no == strings.Contains(stdout+stderr, not) {
			s.Errorf("%s: want %q in\n%s%s", args, w, stdout, stderr)
		}
	}
}

// TestStatus asks all nodes, one of which hangs, one has no netpold and one is not in sync.
func TestStatus(t *testing.T) {
	s := newServer(t, daemons, shop)
	fine := watch.Report{Node: "node-1", Version: "v0.3.0 (commit 0123) go1.26", Synced: true, InSync: true,
		Pods: watch.PodsReport{Node: 7}, IsolatedPods: map[string]int{"ingress": 3, "egress": 2},
		Policies:  watch.PoliciesReport{Total: 5, InEffect: 4},
		Preflight: []preflight.Finding{{Check: "bridge", Problem: "a bridge \x1b[31m", Remedy: "mend it"}}}
	s.answers("node-1", text(t, fine), 0)
	s.answers("node-2", text(t, fine), 0)
	s.expect(0, "status", "node-1  yes      7     3 in, 2 out  4 of 5", "v0.3.0\n",
		"Not enforced: bridge: a bridge ?[31m\n  to fix it: mend it\n  on node-1, node-2\n")
	ill := fine
	ill.InSync, ill.LastTransaction.Error, ill.Preflight = false, "no memory", nil
	ill.Policies.Troubles = []watch.TroubleReport{{Kind: "over-limit", Policies: []string{"shop/x"}, Reason: "ports"}}
	s.answers("node-2", text(t, ill), command.ExitNo)
	s.expect(command.ExitNo, "status", "node-2  no ",
		"Not in sync: the last transaction failed: no memory\n  on node-2\n",
		"Policy over-limit: shop/x: ports\n  on node-2\n", "  on node-1\n")
	s.expect(command.ExitNo, "status -o json", `"node": "node-2"`, `"inSync": false`)
	s.runs("node-2", nil)
	s.expect(command.ExitError, "status --timeout 300ms", "node-1  yes", "node-2  ? ", "  no answer within 300ms\n",
		"1 of 2 nodes did not answer:\n  node-2: no answer within 300ms")
	s.answers("node-2", "netpold: no daemon answers\n", command.ExitError)
	s.expect(command.ExitError, "status", "node-2: no daemon answers")
	s.answers("node-2", "netpold: unknown flag: --until-eof\n", command.ExitError)
	s.expect(command.ExitError, "status", "node-2: its netpold is older than this kubectl-netpold")
	s.answers("node-2", "{", 0)
	s.expect(command.ExitError, "status", "node-2: unreadable answer")
	s.add("kind: Node\nmetadata: {name: node-3}")
	s.add("kind: Node\nmetadata: {name: win, labels: {kubernetes.io/os: windows}}")
	s.expect(command.ExitError, "status", "  netpold does not run there\n", "not: win ")
	s.expect(command.ExitError, "status --netpold-namespace shop", "is netpold installed?")
}

// TestPolicyStatus asks only the nodes that need a policy.
func TestPolicyStatus(t *testing.T) {
	s := newServer(t, daemons, shop)
	var spec watch.PolicyReport
	if err := json.Unmarshal([]byte(`{"spec": {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from":
		[{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]}}`), &spec); err != nil {
		t.Fatal(err)
	}
	says := func(r watch.PolicyReport) { s.answers("node-1", text(t, r), 0) }
	says(watch.PolicyReport{InForce: true, Spec: spec.Spec, Pods: []string{"shop/db-0"}})
	s.expect(0, "status shop/db", "node-1  1     yes\n", "shop/db is in force on 1 of the 1 nodes that need it")
	if asked := <-s.asked; !slices.Equal(asked, []string{"node-1", "netpold", "--until-eof", "status", "shop/db", "-o",
		"json"}) {
		t.Errorf("asked %q", asked)
	}
	s.expect(0, "status shop/db -o json", `"inForce": true`)
	says(watch.PolicyReport{InForce: true, Spec: spec.Spec})
	s.expect(command.ExitNo, "status shop/db", "no: the node does not apply it to shop/db-0", "on 0 of the 1 nodes")
	other := spec.Spec.DeepCopy()
	other.PodSelector.MatchLabels = nil
	says(watch.PolicyReport{InForce: true, Spec: other, Pods: []string{"shop/db-0"}})
	s.expect(command.ExitNo, "status shop/db", "no: the node has another version of the policy")
	says(watch.PolicyReport{Reason: "quarantined: the kernel refused it"})
	s.expect(command.ExitNo, "status shop/db", "no: quarantined: the kernel refused it")
	s.expect(0, "status shop/nobody", "shop/nobody selects no pod that has an address: no node needs it")
	s.expect(command.ExitError, "status shop/dd", "no NetworkPolicy shop/dd (did you mean shop/db?)")
	s.expect(command.ExitError, "status shop/all --timeout 300ms", "node-2  1     no: no answer within 300ms")
}

// TestClusterPolicyStatus asks the nodes that have subjects of a ClusterNetworkPolicy.
func TestClusterPolicyStatus(t *testing.T) {
	const guard = `{"kind": "ClusterNetworkPolicy", "metadata": {"name": "guard"}, "spec": {"tier": "Admin",
		"priority": 1, "subject": {"pods": {"namespaceSelector": {}, "podSelector":
		{"matchLabels": {"app": "db"}}}}, "ingress": [{"action": "Deny",
		"from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 22}}}]%s}]}}`
	s := newServer(t, daemons, shop, strings.ReplaceAll(fmt.Sprintf(guard, ""), "\t", ""))
	says := func(unknown string, r watch.PolicyReport) {
		p, err := policy.ReadClusterPolicy(fmt.Appendf(nil, guard, unknown))
		if err != nil {
			t.Fatal(err)
		}
		r.ClusterSpec, r.Unread = &p.Spec, p.Unread
		s.answers("node-1", text(t, r), 0)
	}
	says("", watch.PolicyReport{InForce: true, Pods: []string{"shop/db-0"},
		Notes: []string{"equal priority: a, guard"}})
	s.expect(0, "status guard", "node-1  1     yes\n", "guard is in force on 1 of the 1 nodes that need it",
		"\n\nequal priority: a, guard\n  on node-1\n")
	if len(s.asked) != 1 || !slices.Equal((<-s.asked)[3:], []string{"status", "guard", "-o", "json"}) {
		t.Error("node-1 was not asked")
	}
	s.expect(0, "status guard -o json", `"equal priority: a, guard": [`)
	says("", watch.PolicyReport{InForce: true})
	s.expect(command.ExitNo, "status guard", "no: the node does not apply it to shop/db-0")
	says(`, "except": []`, watch.PolicyReport{InForce: true, Pods: []string{"shop/db-0"}})
	s.expect(command.ExitNo, "status guard", "no: the node has another version of the policy")
	says("", watch.PolicyReport{Reason: "rejected: spec.ingress[0]: no"})
	s.expect(command.ExitNo, "status guard", "no: rejected: spec.ingress[0]: no")
	s.expect(command.ExitError, "status gard",
		"no ClusterNetworkPolicy gard (did you mean guard?); a NetworkPolicy is NAMESPACE/NAME")
}

// TestObjects asks only the API server.
func TestObjects(t *testing.T) {
	s := newServer(t, daemons, shop)
	s.expect(0, "explain shop/web-1 shop/db-0:5432", "allowed by shop/all spec.ingress[0]")
	s.expect(0, "explain shop/db-0 shop/web-1:80 --rules", "rules on node node-2:")
	s.expect(command.ExitError, "explain shop/wbe-1 shop/db-0:5432", "did you mean shop/web-1?")
	s.expect(0, "connectivity", "shop/web")
	s.expect(command.ExitError, "connectivity -n shpo", "no namespace shpo (did you mean shop?)")
	changed := filepath.Join(t.TempDir(), "changed.yaml")
	if err := os.WriteFile(changed, []byte(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: all, namespace: shop}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.expect(command.ExitNo, "diff -f "+changed, "lost", "ingress: was allowed by shop/all")
	s.expect(0, "diff -f "+changed+" -f "+changed, "No connection is gained or lost.")
	s.expect(command.ExitError, "diff -f a -f b -f c", "-f given 3 times")
	s.expect(command.ExitError, "status --context none", `context "none" does not exist`)
	if len(s.asked) > 0 {
		t.Errorf("a node was asked: %q", <-s.asked)
	}
}

// TestVerify asks the nodes of a flow's ends.
func TestVerify(t *testing.T) {
	s := newServer(t, daemons, shop)
	says := func(node string, allowed bool, rules ...explain.RuleText) {
		s.answers(node, text(t, explain.Answer{Allowed: allowed, Flows: []explain.FlowText{{Allowed: allowed,
			Text: node + " explains\n", Nodes: []explain.NodeText{{Node: node, Rules: rules}}}}}), 0)
	}
	says("node-1", true)
	says("node-2", true)
	const question = "explain --verify shop/web-1 shop/db-0:5432"
	s.expect(0, question, "Node node-1 says:\n  node-1 explains\n", "Node node-2 says:\n  node-2 explains\n")
	s.expect(0, question+" -o json", `"node-2": {`)
	says("node-2", false)
	s.expect(command.ExitNo, question)
	says("node-1", true, explain.RuleText{Chain: "forward", Missing: true, Kernel: "nothing"})
	s.expect(command.ExitError, question, "the kernel differs from what the daemon says in 1 places")
	s.runs("node-2", nil)
	says("node-1", true)
	s.expect(command.ExitError, question+" --timeout 300ms", "Node node-1 says:", "node-2: no answer within 300ms")
	s.expect(command.ExitError, "explain --verify 192.0.2.1 192.0.2.2:80",
		"neither 192.0.2.1 nor 192.0.2.2:80 is a pod")
}

// TestHang: a command on a node ends when nobody waits for it.
func TestHang(t *testing.T) {
	s := newServer(t, daemons, shop)
	s.answers("node-1", "{}", 0)
	ended := make(chan struct{})
	s.runs("node-2", func(_ context.Context, p kubelet.Process) int {
		_, _ = io.Copy(io.Discard, p.Stdin)
		close(ended)
		return 0
	})
	s.expect(command.ExitError, "status --timeout 300ms")
	<-ended
}

// TestComplete completes names from the API server.
func TestComplete(t *testing.T) {
	s := newServer(t, daemons, shop, "kind: ClusterNetworkPolicy\nmetadata: {name: shop-guard}")
	for args, want := range map[string]string{
		"status s": "shop/\nshop-guard\n:6\n", "status shop-": "shop-guard\n:6\n",
		"status shop/d": "shop/db\n:4\n", "status shop/db ''": ":4\n",
		"explain shop/w": "shop/web-1\n:4\n", "explain shop/web-1 shop/d": "shop/db-0:\n:6\n",
		"drops --namespace sh": "shop\n:4\n", "connectivity --namespace sh": "shop\n:4\n",
		"drops --netpold-namespace sh": "shop\n:4\n",
	} {
		words := append([]string{"__complete", "--kubeconfig", s.kubeconfig}, strings.Fields(args)...)
		root := rootCommand()
		var out strings.Builder
		root.SetArgs(words)
		root.SetOut(&out)
		root.SetErr(io.Discard)
		if err := root.ExecuteContext(t.Context()); err != nil || out.String() != want {
			t.Errorf("%s: %v, got %q, want %q", args, err, out.String(), want)
		}
	}
}

// TestImports: the workstations' program has nothing of netlink, and the nodes' nothing of kubectl.
func TestImports(t *testing.T) {
	for program, never := range map[string][]string{
		".": {"github.com/google/nftables", "github.com/mdlayher/", "github.com/netpold/netpold/nft/kernel",
			"github.com/netpold/netpold/nft/nflog", "github.com/containerd/"},
		"../netpold": {"k8s.io/cli-runtime", "k8s.io/client-go/kubernetes", "k8s.io/client-go/tools/remotecommand",
			"k8s.io/streaming", "sigs.k8s.io/kustomize"},
	} {
		for _, system := range []string{"linux", "darwin", "windows"} {
			if program != "." && system != "linux" {
				continue
			}
			list := exec.Command("go", "list", "-deps", program)
			list.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
			out, err := list.Output()
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(out)) {
				for _, no := range never {
					if strings.HasPrefix(line, no) {
						t.Errorf("%s on %s imports %s", program, system, line)
					}
				}
			}
		}
	}
}
