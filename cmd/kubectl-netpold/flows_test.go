// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/test/harness/kubelet"
)

// flowFrom is a line of `netpold flows -o json` about a connection of a pod of shop to db.
func flowFrom(pod, address, verdict string, count int) string {
	return lines(fmt.Sprintf(`{"from": {"address": %q, "namespace": "shop", "pod": "shop/%s", "workload": "Pod/%[2]s",
		"labels": {"app": "web"}}, "to": {"address": "10.0.1.1", "namespace": "shop", "pod": "shop/db-0",
		"workload": "StatefulSet/db", "labels": {"app": "db"}}, "protocol": "tcp", "port": 5432, "count": %d,
		"first": "2026-11-22T01:00:00Z", "last": "2026-11-22T01:00:01Z", "verdict": %q, "node": "a lie"}`,
		address, pod, count, verdict))
}

// TestFlows merges the nodes' flows: the nodes of both ends see a connection, and one of them may have denied it.
func TestFlows(t *testing.T) {
	t.Setenv("TZ", "UTC")
	s := newServer(t, daemons, shop)
	s.answers("node-1", flowFrom("web-1", "10.0.2.1", "allowed", 3)+flowFrom("thief", "10.0.2.2", "denied", 2), 0)
	s.answers("node-2", flowFrom("web-1", "10.0.2.1", "allowed", 3)+flowFrom("thief", "10.0.2.2", "allowed", 2), 0)
	s.expect(0, "flows", "shop/web-1  shop/db  TCP 5432  allowed  3 ", "shop/thief  shop/db  TCP 5432  denied   2 ",
		"not: allowed  2")
	s.expect(0, "flows -o json", `"node":"node-1"`, "not: lie")
	<-s.asked
	s.expect(0, "flows -n shop --since 10m")
	for len(s.asked) > 1 {
		<-s.asked
	}
	if asked := <-s.asked; !slices.Contains(asked, "--namespace=shop") || !slices.Contains(asked, "--since=10m0s") {
		t.Errorf("asked %q", asked)
	}
	s.answers("node-2", "netpold: run netpold with --observe\n", command.ExitError)
	s.expect(command.ExitError, "flows", "shop/web-1", "node-2: run netpold with --observe")
	s.answers("node-1", "", command.ExitNo)
	s.answers("node-2", "", command.ExitNo)
	s.expect(command.ExitNo, "flows")
	s.answers("node-2", "nonsense\n", 0)
	s.expect(command.ExitError, "flows", "node-2: unreadable answer")
	s.expect(command.ExitError, "flows -o yaml", "--output=yaml: want txt or json")
}

// TestFollowFlows prints known flows and new ones, with their nodes.
func TestFollowFlows(t *testing.T) {
	t.Setenv("TZ", "UTC")
	s := newServer(t, daemons, shop)
	s.answers("node-1", "", command.ExitNo)
	s.runs("node-2", func(_ context.Context, p kubelet.Process) int {
		_, _ = io.WriteString(p.Stdout, flowFrom("web-1", "10.0.2.1", "allowed", 3))
		if slices.Contains(p.Args, "--follow") {
			later := strings.ReplaceAll(flowFrom("web-1", "10.0.2.1", "allowed", 4), "01:00:01Z", "01:00:09Z")
			_, _ = io.WriteString(p.Stdout, later)
			_, _ = io.Copy(io.Discard, p.Stdin)
		}
		return 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	root := rootCommand()
	out := &watched{until: "  4\n", done: cancel}
	root.SetArgs([]string{"flows", "--follow", "--kubeconfig", s.kubeconfig})
	root.SetOut(out)
	root.SetErr(io.Discard)
	if err := root.ExecuteContext(ctx); err != nil {
		t.Error(err)
	}
	want := "2026-11-22 01:00:01  node-2  allowed  shop/web-1 -> shop/db  TCP 5432  3\n" +
		"2026-11-22 01:00:09  node-2  allowed  shop/web-1 -> shop/db  TCP 5432  4\n"
	if out.text.String() != want {
		t.Errorf("got\n%swant\n%s", out.text.String(), want)
	}
}

// TestSuggest makes policies from what all nodes have seen, and none if a node does not answer.
func TestSuggest(t *testing.T) {
	s := newServer(t, daemons, shop)
	s.answers("node-1", flowFrom("web-1", "10.0.2.1", "allowed", 3), 0)
	s.answers("node-2", flowFrom("web-1", "10.0.2.1", "allowed", 3), 0)
	s.expect(0, "suggest -n shop", "name: web-1-egress", "# to shop/db-0: TCP 5432, 3 connections")
	s.runs("node-2", nil)
	s.expect(command.ExitError, "suggest -n shop --timeout 300ms", "node-2: no answer within 300ms",
		"not: kind: NetworkPolicy")
}
