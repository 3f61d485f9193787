// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/netpold/netpold/test/prober"
)

// ride returns a train, and a daemon whose rules are in force, which the train passes while the test waits.
func ride(t *testing.T, program string, flags ...string) (*train, *daemon) {
	t.Helper()
	r := newTrain(t, prober.New(t))
	d := newDaemon(t, program, r.step, flags...)
	d.write("world.yaml", world)
	d.write("permission.yaml", permission)
	d.start()
	r.count = count{} // nothing was in force at first
	return r, d
}

// testOwned breaks what can be broken while the kernel keeps the table for netpold.
func testOwned(t *testing.T, program string) {
	r, d := ride(t, program)
	restarts(r, d)
	r.unharmed("flush ruleset, owned table", func() {
		if out, err := d.nft("flush", "ruleset"); err != nil {
			t.Logf("nft flush ruleset: %v: %s", err, out)
		}
	})
	r.unharmed("delete table, owned table", func() {
		if out, err := d.nft("delete", "table", "inet", "netpold"); err == nil {
			t.Errorf("another process could delete the owned table: %s", out)
		}
	})
}

// testShared does the same with a table that others can change, and lets them.
func testShared(t *testing.T, program string) {
	r, d := ride(t, program, "--own-table=false")
	restarts(r, d)
	r.unharmed("100 times another process adds a chain, and the table is replaced", func() {
		for i := range 100 {
			if out, err := d.nft("add", "chain", "inet", "netpold", fmt.Sprint("stranger-", i)); err != nil {
				t.Errorf("nft add chain: %v: %s", err, out)
			}
			d.await(again)
		}
	})
	for _, change := range []string{"flush ruleset", "delete table inet netpold"} {
		for range 3 {
			r.during(change+", shared table", func() {
				if out, err := d.nft(strings.Fields(change)...); err != nil {
					t.Errorf("nft %s: %v: %s", change, err, out)
				}
				t.Log(d.await(again))
			})
			r.unharmed("after "+change, func() {})
		}
	}
}

// restarts ends, stops and starts the daemon, and changes policies under it.
func restarts(r *train, d *daemon) {
	change := func() {
		r.change++
		d.write("change.yaml", bystanding(r.change))
	}
	r.unharmed("3 times kill -9 and restart", func() {
		for range 3 {
			change() // it may or may not get to it
			d.end(syscall.SIGKILL)
			r.steps(20)
			d.start()
		}
	})
	r.unharmed("3 times SIGTERM and restart", func() {
		for range 3 {
			change()
			d.end(syscall.SIGTERM)
			r.steps(20)
			d.start()
		}
	})
	r.unharmed("SIGSTOP and SIGCONT", func() {
		d.signal(syscall.SIGSTOP)
		change()
		r.steps(100)
		d.signal(syscall.SIGCONT)
		d.await(transaction)
	})
	r.unharmed("300 changes", func() {
		for range 300 {
			change()
			d.await(transaction)
		}
	})
}

// bystanding returns a manifest that changes the rules, each other than the one before, and no verdict on the train: web moves between
// isolations, chains come and go, sets that the train is looked up in grow and shrink.
func bystanding(i int) string {
	policy := func(name, app, from string) string {
		return fmt.Sprintf(`
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s, namespace: shop},
 spec: {podSelector: {matchLabels: {app: %s}}, policyTypes: [Ingress, Egress], ingress: [{from: [%s], ports: [{port: %d}]}]}}
`, name, app, from, 1000+i)
	}
	pod := func(app, node string, subnet int) string {
		return fmt.Sprintf(`
---
{apiVersion: v1, kind: Pod, metadata: {name: extra-%d, namespace: shop, labels: {app: %s}}, spec: {nodeName: %s},
 status: {phase: Running, podIPs: [{ip: 10.0.%d.%d}, {ip: "fd00:%d::%x"}]}}
`, i, app, node, subnet, 50+i%200, subnet, 50+i%200)
	}
	switch i % 5 {
	case 0:
		return policy("extra", "web", fmt.Sprintf("{ipBlock: {cidr: 192.0.2.%d/32}}", i%256))
	case 1:
		return policy("extra", "web", "{namespaceSelector: {matchLabels: {team: shop}}}")
	case 2:
		return policy("extra", "web", "{podSelector: {}}") + pod("client", "node-2", 2)
	case 3:
		return pod("web", "node-1", 1) + pod("client", "node-2", 2)
	default:
		return policy("other", "nobody", "{podSelector: {}}") + pod("client", "node-2", 2)
	}
}
