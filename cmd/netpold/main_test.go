// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/explain"
	"github.com/netpold/netpold/watch/folder"
	"github.com/netpold/netpold/watch/preflight"
)

const cluster = `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: db, namespace: shop, labels: {app: db}}
  spec: {nodeName: worker-1, containers: [{name: a, image: a}]}
  status: {phase: Running, podIP: 10.0.0.1}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec: {nodeName: worker-2, containers: [{name: a, image: a}]}
  status: {phase: Running, podIP: 10.0.0.2}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: db, namespace: shop}
  spec:
    podSelector: {matchLabels: {app: db}}
    ingress:
    - from: [{podSelector: {matchLabels: {app: web}}}]
      ports: [{port: 5432}]
`

const badPolicy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bad, namespace: shop}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]
`

// TestCommands runs commands as a user would: their output, errors and exit status.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"good/cluster.yaml": cluster, "bad/cluster.yaml": cluster,
		"bad/bad.yaml": badPolicy} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	const denied = `{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop}, status: {podIP: 10.0.0.1}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a, namespace: shop}, spec: {podSelector: {}}}
`
	for name, tc := range map[string]struct {
		args   []string
		stdin  string
		exit   int
		stdout string
		stderr string
	}{
		"render": {args: []string{"render", "-f", good, "--node", "worker-1"},
			stdout: "table inet netpold {"},
		"render stdin": {args: []string{"render", "-f", "-", "--node", "worker-1"}, stdin: cluster,
			stdout: "10.0.0.2 . tcp . 5432 comment \"shop/web\""},
		"render file": {args: []string{"render", "-f", filepath.Join(good, "cluster.yaml"), "--node",
			"worker-1"}, stdout: "shop/db"},
		"render another node": {args: []string{"render", "-f", good, "--node", "worker-2"},
			stdout: "hook forward priority filter"},
		"render no such node": {args: []string{"render", "-f", good, "--node", "worker-9"},
			stdout: "hook forward priority filter", stderr: "no pod is on node \"worker-9\""},
		"suggest from nothing": {args: []string{"suggest", "-n", "shop", "-f", good, "-f", "-"}, exit: 2,
			stderr: "nothing to suggest"},
		"complete a value": {args: []string{"__complete", "diff", "--fail-on", ""}, stdout: "gained\nlost\nany\n:4"},
		"render bad": {args: []string{"render", "-f", bad, "--node", "worker-1"}, exit: 1,
			stdout: "shop/bad/and-1-more",
			stderr: "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0/33\""},
		"render reject": {args: []string{"render", "-f", good, "--node", "worker-1", "--deny", "reject"},
			stdout: "reject with tcp reset"},
		"render recheck": {args: []string{"render", "-f", good, "--node", "worker-1", "--established=recheck"},
			stdout: "ct state established ct direction reply accept"},
		"render no log": {args: []string{"render", "-f", good, "--node", "worker-1", "--log-group=0"},
			stdout: "counter goto deny-ingress"},
		"render bad flag": {args: []string{"render", "-f", good, "--deny", "maybe"}, exit: 2,
			stderr: "--deny=maybe: want drop or reject"},
		"render no file": {args: []string{"render", "--node", "worker-1"}, exit: 2,
			stderr: "\"filename\" not set"},
		"render nothing there": {args: []string{"render", "-f", filepath.Join(dir, "none")}, exit: 2,
			stderr: "no such file"},
		"explain allowed": {args: []string{"explain", "-f", good, "shop/web", "shop/db:5432"},
			stdout: "allowed by shop/db spec.ingress[0]"},
		"explain denied": {args: []string{"explain", "-f", good, "shop/web", "shop/db:5433/tcp"}, exit: 1,
			stdout: "it allows TCP 5432, not TCP 5433"},
		"explain rules": {args: []string{"explain", "-f", good, "--rules", "shop/web", "shop/db:5432"},
			stdout: "ip saddr . meta l4proto . th dport @ingress-"},
		"explain json": {args: []string{"explain", "-f", good, "-o", "json", "shop/web", "shop/db:5433"}, exit: 1,
			stdout: `"text": "shop/web (10.0.0.2) -> shop/db (10.0.0.1) TCP 5433: denied\n`},
		"explain ICMP": {args: []string{"explain", "-f", good, "192.0.2.1", "shop/db:icmp"}, exit: 1,
			stdout: "ICMP: denied"},
		"explain out": {args: []string{"explain", "-f", good, "shop/db", "192.0.2.1:53/udp"},
			stdout: "no policy isolates it for egress"},
		"explain no such pod": {args: []string{"explain", "-f", good, "shop/nobody", "shop/db:80"}, exit: 2,
			stderr: "no pod shop/nobody"},
		"explain one policy without rules": {args: []string{"explain", "-f", "-", "192.0.2.1", "shop/db:80"}, exit: 1,
			stdin: denied, stdout: "isolated by shop/a, which allows nothing\n"},
		"explain two policies without rules": {args: []string{"explain", "-f", "-", "192.0.2.1", "shop/db:80"},
			stdin: denied + strings.ReplaceAll(denied[strings.Index(denied, "---"):], "name: a", "name: b"), exit: 1,
			stdout: "isolated by shop/a, shop/b, which allow nothing\n"},
		"explain of two sources": {args: []string{"explain", "-f", good, "-f", bad, "shop/web", "shop/db:80"}, exit: 2,
			stderr: "only one folder or file can be read, and " + good + " was already given"},
		"render of two sources": {args: []string{"render", "-f", good, "-f", bad, "--node", "worker-1"}, exit: 2,
			stderr: "only one folder or file"},
		"unknown flag": {args: []string{"drops", "--folow"}, exit: 2,
			stderr: "unknown flag: --folow (did you mean --follow?)"},
		"unknown flag, nothing near": {args: []string{"drops", "--nothing"}, exit: 2,
			stderr: "unknown flag: --nothing\n"},
		"explain no port": {args: []string{"explain", "-f", good, "shop/web", "shop/db"}, exit: 2,
			stderr: "no port"},
		"explain no such proto": {args: []string{"explain", "-f", good, "shop/web", "shop/db:80/tpc"}, exit: 2,
			stderr: "\"tpc\" is not tcp, udp or sctp"},
		"explain bare IPv6": {args: []string{"explain", "-f", good, "shop/web", "fd00::1:80"}, exit: 2,
			stderr: "in brackets"},
		"explain mixed families": {args: []string{"explain", "-f", good, "fd00::1", "shop/db:80"}, exit: 2,
			stderr: "no IP family in common"},
		"run without a source": {args: []string{"run", "--manifests", good, "--kubeconfig", "x"}, exit: 2,
			stderr: "none of the others can be"},
		"run bad level": {args: []string{"run", "--manifests", good, "--log-level", "loud"}, exit: 2,
			stderr: "--log-level=loud"},
		"status, nobody there": {args: []string{"status"}, exit: 2,
			stderr: "no daemon answers in this network namespace"},
		"run events of a folder": {args: []string{"run", "--manifests", good, "--drop-events"}, exit: 2,
			stderr: "none of the others can be"},
		"run taint of a folder": {args: []string{"run", "--manifests", good, "--taint", "a"}, exit: 2,
			stderr: "none of the others can be"},
		"run events without log": {args: []string{"run", "--drop-events", "--log-group", "0"}, exit: 2,
			stderr: "--drop-events needs the log"},
		"status without daemon": {args: []string{"status", "--listen", "127.0.0.1:1"}, exit: 2,
			stderr: "no daemon answers on 127.0.0.1:1"},
		"explain typo": {args: []string{"explain", "-f", good, "shop/wbe", "shop/db:80"}, exit: 2,
			stderr: "no pod shop/wbe (did you mean shop/web?)"},
		"drops top": {args: []string{"drops", "--top", "5"}, exit: 2, stderr: "no daemon answers"},
		"drops top of a word": {args: []string{"drops", "--top", "ten"}, exit: 2,
			stderr: "invalid argument \"ten\""},
		"drops top of none": {args: []string{"drops", "--top=-1"}, exit: 2, stderr: "--top=-1: want 1 or more"},
		"drops something":   {args: []string{"drops", "5"}, exit: 2, stderr: "unknown command \"5\""},
		"version":           {args: []string{"version"}, stdout: "netpold "},
		"no such command":   {args: []string{"rendre"}, exit: 2, stderr: "unknown command"},
		"help": {args: []string{"explain", "--help"},
			stdout: "Exit status: 0 allowed, 1 denied, 2 error."},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exit := execute(t.Context(), tc.stdin, tc.args...)
			if exit != tc.exit || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("netpold %v: exit %d, want %d\nstdout: %s\nstderr: %s", tc.args, exit, tc.exit, stdout, stderr)
			}
			if (exit == command.ExitError) != (stdout == "") {
				t.Errorf("netpold %v: exit %d and stdout %q", tc.args, exit, stdout)
			}
		})
	}
}

// execute runs a command and returns what main would print, and its exit status.
func execute(ctx context.Context, stdin string, args ...string) (stdout, stderr string, exit int) {
	var out, errs bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	exit = command.Exit(&errs, root.ExecuteContext(ctx))
	return out.String(), errs.String(), exit
}

// TestStatus shows the report of a daemon.
func TestStatus(t *testing.T) {
	report := watch.Report{
		Node: "worker-1", Synced: true, InSync: true, Source: watch.SourceReport{Name: "API server"},
		Kernel: watch.KernelReport{Release: "6.1.2",
			Lacks: []watch.Lack{{What: "it is small", Since: "6.9", Effect: "as ever"}}},
		IsolatedPods: map[string]int{"ingress": 2},
		Policies: watch.PoliciesReport{Total: 4, InEffect: 1, Troubles: []watch.TroubleReport{
			{Kind: "rejected", Policies: []string{"ns/bad"}, Reason: "spec.x"},
			{Kind: "quarantined", Policies: []string{"ns/a", "ns/b"}, Reason: "the kernel refused it"},
		}},
		Preflight: []preflight.Finding{{Check: preflight.Bridge, Problem: "a bridge", Remedy: "mend it"}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(report)
	}))
	defer server.Close()
	listen := strings.TrimPrefix(server.URL, "http://")
	stdout, stderr, exit := execute(t.Context(), "", "status", "--listen", listen)
	if exit != 0 || stderr != "" {
		t.Errorf("in sync: exit %d, stderr %s", exit, stderr)
	}
	for _, want := range []string{
		"worker-1", "yes", "2 pods for ingress, 0 for egress", "ns/bad: spec.x", "ns/a, ns/b: the kernel refused it",
		"bridge: a bridge", "mend it",
		"Linux 6.1.2", "it is small (fixed in Linux 6.9): as ever",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("status lacks %q:\n%s", want, stdout)
		}
	}
	report.InSync = false
	report.LastTransaction.Error = "no buffer space"
	if stdout, _, exit := execute(t.Context(), "", "status", "--listen", listen); exit != command.ExitNo ||
		!strings.Contains(stdout, "no: the last transaction failed: no buffer space") {
		t.Errorf("not in sync: exit %d, stdout %s", exit, stdout)
	}
	stdout, _, _ = execute(t.Context(), "", "status", "--listen", listen, "-o", "json")
	var got watch.Report
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Node != "worker-1" || len(got.Kernel.Lacks) != 1 {
		t.Errorf("status -o json: %v, %s", err, stdout)
	}
}

// TestPolicyStatus shows whether a policy is in force.
func TestPolicyStatus(t *testing.T) {
	report := watch.PolicyReport{Node: "worker-1", Policy: "shop/db", InForce: true,
		Pods: []string{"shop/db-0", "shop/db-1"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/policy?name=shop%2Fdb" {
			t.Errorf("asked for %s", r.URL)
		}
		_ = json.NewEncoder(w).Encode(report)
	}))
	defer server.Close()
	args := []string{"status", "shop/db", "--listen", strings.TrimPrefix(server.URL, "http://")}
	if stdout, _, exit := execute(t.Context(), "", args...); exit != 0 || stdout !=
		"Policy:    shop/db\nIn force:  yes\nIsolates:  shop/db-0, shop/db-1\n" {
		t.Errorf("exit %d:\n%s", exit, stdout)
	}
	report = watch.PolicyReport{Policy: "shop/db", Reason: "a transaction is in progress"}
	if stdout, _, exit := execute(t.Context(), "", args...); exit != command.ExitNo || stdout !=
		"Policy:    shop/db\nIn force:  no: a transaction is in progress\nIsolates:  none on this node\n" {
		t.Errorf("exit %d:\n%s", exit, stdout)
	}
	report = watch.PolicyReport{Policy: "ClusterNetworkPolicy guard", InForce: true, Pods: []string{"shop/db-0"},
		Notes: []string{"sequential: " + watch.SequentialText}}
	if stdout, _, exit := execute(t.Context(), "", args...); exit != 0 || stdout !=
		"Policy:    ClusterNetworkPolicy guard\nIn force:  yes\nSubjects:  shop/db-0\n"+
			"Note:      sequential: "+watch.SequentialText+"\n" {
		t.Errorf("exit %d:\n%s", exit, stdout)
	}
	report = watch.PolicyReport{Policy: "shop/db", Reason: "a transaction is in progress"}
	var got watch.PolicyReport
	if stdout, _, exit := execute(t.Context(), "", append(args, "-o", "json")...); exit != command.ExitNo ||
		json.Unmarshal([]byte(stdout), &got) != nil || got.Reason != report.Reason {
		t.Errorf("exit %d:\n%s", exit, stdout)
	}
}

// TestUntilEOF: with the flag, a command that waits ends with its standard input.
func TestUntilEOF(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	defer server.Close()
	_, stderr, exit := execute(t.Context(), "some of it", "status", "--until-eof", "--listen",
		strings.TrimPrefix(server.URL, "http://"))
	if exit != command.ExitError || stderr != "netpold: ask the daemon: context canceled\n" {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

// TestListenAddress: addresses in the form that package net wants.
func TestListenAddress(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:9911": "127.0.0.1:9911", "fd00::1:9911": "[fd00::1]:9911", "[fd00::1]:9911": "[fd00::1]:9911",
		":9911":       ":9911",
		"localhost:1": "localhost:1", "": "",
	} {
		if got := listenAddress(address); got != want {
			t.Errorf("listenAddress(%q) = %q, want %q", address, got, want)
		}
	}
}

// TestSocket sends requests to the daemon's socket, as its own user and as another one.
func TestSocket(t *testing.T) {
	l, err := listenNode(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil && strings.Contains(err.Error(), "another netpold is running on this node") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	differing := explain.Answer{Allowed: true, Flows: []explain.FlowText{{Nodes: []explain.NodeText{{
		Rules: []explain.RuleText{{Chain: "c", Rule: "accept", Kernel: "set s does not have the element",
			Missing: true}},
		Differs: []string{"chain c has 4 rules, not 3"},
	}}}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- serve(ctx, l, private(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/explain" {
				_ = json.NewEncoder(w).Encode(differing)
				return
			}
			_ = json.NewEncoder(w).Encode(watch.Report{Node: "worker-1", InSync: true})
		})))
	}()
	if stdout, stderr, exit := execute(t.Context(), "", "status"); exit != 0 || !strings.Contains(stdout, "worker-1") {
		t.Errorf("exit %d, stdout %s, stderr %s", exit, stdout, stderr)
	}
	stdout, stderr, exit := execute(t.Context(), "", "explain", "--verify", "shop/web", "shop/db:80")
	for _, want := range []string{"kernel: DIFFERS: set s does not have the element",
		"kernel: DIFFERS: chain c has 4 rules, not 3"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("explain --verify lacks %q:\n%s", want, stdout)
		}
	}
	if exit != command.ExitError || !strings.Contains(stderr, "in 2 places") {
		t.Errorf("explain --verify: exit %d, stderr %s", exit, stderr)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	stranger := httptest.NewRecorder()
	private(http.NotFoundHandler()).ServeHTTP(stranger, httptest.NewRequest(http.MethodGet, "/status", nil))
	if stranger.Code != http.StatusForbidden {
		t.Errorf("who is not known gets %d", stranger.Code)
	}
}

// TestExplainWithoutTables: an answer from the policies' own text costs the same in a cluster with a hundred times the
// pods, as no table is made for it. With --rules, one is.
func TestExplainWithoutTables(t *testing.T) {
	allocations := func(flags explainFlags, pods int) float64 {
		c, errs := folder.Read("cluster", strings.NewReader(cluster))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for i := range pods {
			c.Pods = append(c.Pods, policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("web-", i)}, Node: "worker-2",
				Labels: map[string]string{"app": "web"},
				IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
			})
		}
		flags.Limits = content.DefaultLimits()
		return testing.AllocsPerRun(1, func() {
			if _, err := flags.Explain(c, "shop/web", "shop/db:5432"); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := allocations(explainFlags{}, 100), allocations(explainFlags{}, 10_000)
	tables := allocations(explainFlags{ExplainFlags: command.ExplainFlags{Rules: true}}, 10_000)
	t.Logf("allocations for an answer: %.0f of 100 pods, %.0f of 10,000, %.0f with the rules", few, many, tables)
	if many > 2*few || tables < 10*many { // the runtime may allocate one or two meanwhile
		t.Error("a table is made for an answer without rules, or none with them")
	}
}

// The kernel is asked for everything that the tables have, whatever the flags.
func TestNeeds(t *testing.T) {
	for _, flags := range []tableFlags{
		{deny: "drop", established: "keep", podToNode: "filter", logGroup: 86},
		{deny: "drop", established: "recheck", podToNode: "allow"},
		{deny: "reject", established: "keep", podToNode: "filter"},
		{deny: "reject", established: "recheck", podToNode: "filter", logGroup: 1},
		{deny: "drop", established: "keep", podToNode: "filter",
			guard: guardFlags{mode: "deny", ranges: []string{"10.9.0.0/16"}}},
	} {
		options, err := flags.options()
		if err != nil {
			t.Fatal(err)
		}
		all, errs := folder.Read("cluster", strings.NewReader(cluster))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		state := translate.New("worker-1", options)
		state.Add(all)
		want := kernel.Policies
		for _, c := range state.Complete().Chains() {
			for _, r := range c.Rules {
				for _, s := range r.Statements {
					switch s := s.(type) {
					case nft.Log, nft.Limit:
						want |= kernel.Log
					case nft.AddrType:
						want |= kernel.Guard
					case nft.Verdict:
						if s.Kind == nft.Reject || s.Kind == nft.Reset {
							want |= kernel.Reject
						}
					}
				}
			}
		}
		if got := needs(options); got != want {
			t.Errorf("%+v: needs %b, and the table has %b", flags, got, want)
		}
	}
}

// TestTableListeners counts exactly the sockets that listen to changes of tables.
func TestTableListeners(t *testing.T) {
	const sockets = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
ffff88800a0c1000 0   1          00000440 0        0        0     2        0        1000
ffff88800a0c2000 12  2          00000000 0        0        0     2        0        1001
ffff88800a0c3000 12  4026531840 00000040 0        0        0     2        0        1002
ffff88800a0c4000 12  3          00000007 0        0        0     2        0        1003
ffff88800a0c5000 16  4          00000040 0        0        0     2        0        1004
`
	if got := tableListeners([]byte(sockets)); got != 1 {
		t.Errorf("%d, want 1", got)
	}
}

// Each thing that the kernel lacks is one log line: what, and what it means.
func TestTellLacks(t *testing.T) {
	var out bytes.Buffer
	tellLacks(slog.New(slog.NewTextHandler(&out, nil)), watch.KernelReport{Release: "6.1.2", Lacks: []watch.Lack{
		{What: "the table is not owned", Since: "6.9", Effect: "others can change it"},
		{What: "it is small", Since: "7.7", Effect: "none"},
	}})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	const first = `level=WARN msg="the table is not owned" effect="others can change it" needs="Linux 6.9" linux=6.1.2`
	if len(lines) != 2 || !strings.HasSuffix(lines[0], first) {
		t.Errorf("got %q", lines)
	}
}

// TestVersion: `version` and `--version`.
func TestVersion(t *testing.T) {
	stdout, _, exit := execute(t.Context(), "", "--version")
	if exit != 0 || stdout != "netpold version "+command.Version()+"\n" {
		t.Errorf("--version: exit %d, %q", exit, stdout)
	}
}
