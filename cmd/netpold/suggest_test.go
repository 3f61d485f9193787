// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/netpold/netpold/cmd/internal/command"
)

// seenInShop is output of `netpold flows -o json` about the shop, which has no policy yet.
const seenInShop = `{"from":{"address":"10.244.1.2","namespace":"shop","pod":"shop/web-6d4cf56db6-x02z",` +
	`"workload":"Deployment/web"},"to":{"address":"10.244.1.13","namespace":"shop","pod":"shop/api-6d4cf56db6-x12z",` +
	`"workload":"Deployment/api"},"protocol":"tcp","port":8081,"count":1204,"first":"2026-11-21T09:00:00Z",` +
	`"last":"2026-11-22T00:01:00Z","verdict":"allowed"}
{"from":{"address":"10.244.1.13","namespace":"shop","pod":"shop/api-6d4cf56db6-x12z"},` +
	`"to":{"address":"192.0.2.20"},"protocol":"tcp","port":443,"count":7,"first":"2026-11-21T09:00:00Z",` +
	`"last":"2026-11-21T23:01:00Z","verdict":"allowed"}
`

// suggested is the policy that allows web to reach api.
const suggested = `---
# ingress of shop/api (Deployment)
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: api-ingress
  namespace: shop
spec:
  podSelector:
    matchLabels:
      app: api
  policyTypes:
  - Ingress
  ingress:
  # from shop/web: TCP 8081, 1204 connections, last seen 2026-11-22 00:01 UTC
  - from:
    - podSelector:
        matchLabels:
          app: web
    ports:
    - port: 8081
      protocol: TCP
---
# egress of shop/backup (CronJob)
`

// TestSuggest makes policies from files and standard input, and says what they do.
func TestSuggest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name, name)
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	all, err := os.ReadFile(shop)
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	for document := range strings.SplitSeq(string(all), "\n---\n") {
		if !strings.Contains(document, "kind: NetworkPolicy") {
			objects = append(objects, document)
		}
	}
	cluster, seen := write("cluster.yaml", strings.Join(objects, "\n---\n")), write("flows.json", seenInShop)
	gone := write("gone.json", strings.NewReplacer("web-6d4cf56db6-x02z", "cron-1", "Deployment/web", "CronJob/cron").
		Replace(seenInShop)+seenInShop)
	for name, tc := range map[string]struct {
		args          []string
		stdin         string
		exit          int
		stdout        []string
		stderr        []string
		withoutOutput bool
	}{
		"files": {args: []string{"-f", seen, "-f", cluster},
			stdout: []string{suggested,
				"# Suggested by netpold from 1211 connections seen between 2026-11-21 09:00 UTC and " +
					"2026-11-22 00:01 UTC.\n",
				"  ingress: [] # nothing was seen\n", "      cidr: 192.0.2.20/32\n"},
			stderr: []string{"netpold: shop/db: no connection was seen, so its policies allow nothing\n",
				", 0 would be blocked; the policies change:\n",
				"lost  shop/web                              shop/api                        all but TCP 8081\n"}},
		"standard input": {args: []string{"-f", cluster, "-f", "-"}, stdin: seenInShop, stdout: []string{suggested}},
		"the other":      {args: []string{"-f", "-", "-f", seen}, stdin: strings.Join(objects, "\n---\n")},
		"a folder and several networks": {args: []string{"-f", filepath.Dir(cluster), "-f", seen, "--external", "any"},
			stdout: []string{"cidr: 0.0.0.0/0\n"}},
		"lost": {args: []string{"-f", gone, "-f", cluster}, exit: command.ExitNo, stdout: []string{suggested},
			stderr: []string{
				"netpold: would be blocked: shop/cron -> shop/api TCP 8081: the pod shop/cron-1 is gone, "}},
		"nothing seen": {args: []string{"-n", "monitoring", "-f", seen, "-f", cluster}, exit: command.ExitError,
			stderr: []string{"no allowed connections of namespace monitoring were seen"}, withoutOutput: true},
		"typo": {args: []string{"-n", "shpo", "-f", seen, "-f", cluster}, exit: command.ExitError,
			stderr: []string{"no namespace shpo (did you mean shop?)"}, withoutOutput: true},
		"networks": {args: []string{"-f", seen, "-f", cluster, "--external=16"}, exit: command.ExitError,
			stderr: []string{"--external=16: want exact, 24 or any"}, withoutOutput: true},
		"not flows": {args: []string{"-f", write("drops.json", `{"src":{},"dst":{}}`), "-f", cluster},
			exit: command.ExitError, withoutOutput: true, stderr: []string{
				"drops.json: line 1: not a flow: from.address is missing " +
					`(it may be a line of "netpold drops -o json")`}},
		"no file": {args: []string{"-f", "none.json"}, exit: command.ExitError, withoutOutput: true,
			stderr: []string{"none.json: no such file"}},
		"no daemon": {args: []string{"-f", cluster}, exit: command.ExitError, withoutOutput: true,
			stderr: []string{"no daemon answers"}},
		"no server": {args: []string{"-f", seen, "--kubeconfig", "none"}, exit: command.ExitError, withoutOutput: true,
			stderr: []string{"none: no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"suggest", "-n", "shop"}, tc.args...)
			stdout, stderr, exit := execute(t.Context(), tc.stdin, args...)
			if exit != tc.exit || tc.withoutOutput && stdout != "" {
				t.Errorf("exit %d, want %d; stderr %s, stdout:\n%s", exit, tc.exit, stderr, stdout)
			}
			for _, want := range tc.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			for _, want := range tc.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in\n%s", want, stderr)
				}
			}
		})
	}
}
