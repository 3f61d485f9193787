// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/kubelet"
	"github.com/netpold/netpold/test/harness/page"
	"github.com/netpold/netpold/watch"
)

// worker is the node of docs/example/shop.yaml.
const worker = `
kind: Node
metadata: {name: worker-1}
---
kind: Pod
metadata: {name: netpold-1, namespace: kube-system, labels: {app.kubernetes.io/name: netpold}}
spec: {nodeName: worker-1, hostNetwork: true, containers: [{name: netpold}]}
status: {phase: Running, podIP: 192.168.0.1}
`

// TestPage runs the commands of docs/kubectl.md. The cluster is docs/example/shop.yaml, and its node's answers are made
// up by the test.
func TestPage(t *testing.T) {
	t.Setenv("TZ", "UTC")
	t.Chdir("../../docs/example")
	markdown, err := os.ReadFile("../kubectl.md")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := os.ReadFile("shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, worker, string(objects))
	var spec any
	for _, np := range s.lists["networkpolicies"] {
		if np.GetName() == "db" {
			spec = np.Object["spec"]
		}
	}
	answers := map[string]string{
		"status": text(t, watch.Report{Version: "v0.3.0", Synced: true, InSync: true, Started: time.Now(),
			Pods: watch.PodsReport{Node: 10}, IsolatedPods: map[string]int{"ingress": 6, "egress": 6},
			Policies: watch.PoliciesReport{Total: 7, InEffect: 7}}),
		"status shop/db": text(t, map[string]any{"inForce": true, "spec": spec, "pods": []string{"shop/db-0"}}),
		"drops": lines(lineAt(1, "TCP connection from shop/web-6d4cf56db6-x02z (10.244.1.2:40000) to shop/db-0 "+
			"(10.244.1.6:5432) blocked: egress of shop/web-6d4cf56db6-x02z is isolated by shop/allow-dns, ...")),
		"flows": flowFrom("web-1", "10.0.2.1", "allowed", 3),
	}
	s.runs("worker-1", func(_ context.Context, p kubelet.Process) int {
		question, _, _ := strings.Cut(strings.Join(p.Args[2:], " "), " -o json")
		_, _ = io.WriteString(p.Stdout, answers[question])
		return 0
	})
	ran := 0
	for _, step := range page.Steps(string(markdown)) {
		args, ok := strings.CutPrefix(step.Command, "kubectl netpold ")
		if !ok {
			continue
		}
		ran++
		stdout, stderr, _ := s.run(strings.Fields(args)...)
		if !page.Matches(strings.Split(strings.TrimRight(stdout, "\n"), "\n"), step.Want) {
			t.Errorf("the page says\n%s\nkubectl netpold %s prints\n%s%s", strings.Join(step.Want, "\n"), args, stdout,
				stderr)
		}
	}
	if ran < 5 {
		t.Errorf("%d commands were run", ran)
	}
}
