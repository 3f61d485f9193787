// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What netpold logs of quarantines.
const (
	aside    = `msg="policies quarantined; nothing is allowed to their pods" policies=tenant/big`
	released = `msg="policy is out of quarantine" policy=tenant/big`
)

// longest is how many bytes the kernel takes at once while testQuarantine has it short of memory: enough for all but
// tenant/big.
const longest = 100_000

// testQuarantine has the kernel refuse what one policy alone needs, without saying which: while netpold runs, and when
// it starts.
func testQuarantine(t *testing.T, program string) {
	p := &trap{t: t}
	r := newRideUnder(t, program, p, "--own-table=false")
	short := fault{errno: unix.ENOMEM, longer: longest, at: func(int) bool { return true }}
	r.train.Unharmed("a policy is too large for the kernel", func() {
		p.set(short)
		r.write("big.yaml", big(3000))
		r.await(aside)
		r.await(again)
		r.quarantined(1)
		r.next() // what others change is in force
		r.await(transaction)
		failed, sends := p.clear()
		t.Logf("%d of %d messages were refused", failed, sends)
		if failed == 0 {
			t.Error("nothing was refused")
		}
	})
	r.train.Unharmed("the kernel takes it, as the policy changes", func() {
		r.write("big.yaml", big(2999))
		r.await(released)
		r.quarantined(0)
		same(t, r.daemon)
	})
	r.train.Unharmed("a policy is too large for the kernel when netpold starts", func() {
		r.end(unix.SIGTERM)
		p.set(short)
		r.start()
		r.await(aside)
		r.await(again)
		r.quarantined(1)
		r.next()
		r.await(transaction)
		failed, sends := p.clear()
		t.Logf("%d of %d messages were refused", failed, sends)
	})
}

// quarantined holds the number of quarantined policies against what netpold answers. It is in sync.
func (r *ride) quarantined(want int) {
	r.t.Helper()
	report := r.report()
	if !report.InSync || report.Policies.Troubled["quarantined"] != want || len(report.Policies.Troubles) != want {
		r.t.Errorf("netpold status: in sync: %t, %+v, want %d quarantined", report.InSync, report.Policies, want)
	}
	if out, _ := r.run(exec.Command(r.program, "status")); want > 0 &&
		!strings.Contains(out, "tenant/big: ingress: found by trying") {
		r.t.Errorf("netpold status: %s", out)
	}
	if got := r.metric(`netpold_policies{state="quarantined"}`); got != want {
		r.t.Errorf("the metric says %d, want %d", got, want)
	}
}

// big is a pod of the node and a policy that lets so many addresses reach it.
func big(addresses int) string {
	var b strings.Builder
	b.WriteString(`apiVersion: v1
kind: Pod
metadata: {name: big, namespace: tenant}
spec: {nodeName: node-1}
status: {phase: Running, podIPs: [{ip: 10.99.0.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: big, namespace: tenant}
spec:
  podSelector: {}
  ingress:
  - from:
`)
	for i := range addresses {
		fmt.Fprintf(&b, "    - ipBlock: {cidr: 198.18.%d.%d/32}\n", i/128, i%128*2+1)
	}
	return b.String()
}
