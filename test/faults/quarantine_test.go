// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/test/harness/apiserver"
	"github.com/netpold/netpold/test/harness/netns"
)

// What netpold logs of quarantines.
const (
	aside    = `msg="policies quarantined; their pods are allowed nothing" policies=tenant/big`
	released = `msg="policy is out of quarantine" policy=tenant/big`
)

// longest is how many bytes the kernel accepts at once while testQuarantine simulates a lack of memory: enough for
// everything but tenant/big.
const longest = 100_000

// testQuarantine makes the kernel refuse what only one policy needs, without saying which: while netpold runs, and when
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
		r.next() // others' changes are in force
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

// quarantined checks the number of quarantined policies that netpold reports, and that it is in sync.
func (r *ride) quarantined(want int) {
	r.t.Helper()
	report := r.report()
	for deadline := time.Now().Add(*patience); !report.InSync && time.Now().Before(deadline); report = r.report() {
		r.idle()
	}
	if !report.InSync || report.Policies.Troubled["quarantined"] != want || len(report.Policies.Troubles) != want {
		r.t.Errorf("netpold status: in sync: %t, %+v, want %d quarantined", report.InSync, report.Policies, want)
	}
	if out, _ := r.run(exec.Command(r.program, "status")); want > 0 &&
		!strings.Contains(out, "tenant/big: ingress: found by trial") {
		r.t.Errorf("netpold status: %s", out)
	}
	if got := r.metric(`netpold_policies{state="quarantined"}`); got != want {
		r.t.Errorf("the metric says %d, want %d", got, want)
	}
}

// testTold: an Event of the policy says that it is quarantined.
func testTold(t *testing.T, program string) {
	netns.Enter(t)
	p := &trap{t: t}
	d := newDaemon(t, program, pause, "--own-table=false")
	d.trap = p
	objects := strings.Split(big(3000), "\n---\n")
	bigPod, np := new(corev1.Pod), new(networkingv1.NetworkPolicy)
	err := errors.Join(yaml.Unmarshal([]byte(objects[0]), bigPod), yaml.Unmarshal([]byte(objects[1]), np))
	if err != nil {
		t.Fatal(err)
	}
	np.UID = "5a3c3b1e-6f0e-4f6c-9d2b-0c2f6f1d7a11"
	d.server = apiserver.New(apiserver.Objects{Pods: func(yield func(runtime.Object) bool) { yield(bigPod) }})
	defer d.server.Close()
	d.start()
	p.set(fault{errno: unix.ENOMEM, longer: longest, at: func(int) bool { return true }})
	d.server.Send(watch.Added, np)
	d.await(aside)
	want := corev1.ObjectReference{
		APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Namespace: "tenant", Name: "big", UID: np.UID,
	}
	for deadline := time.Now().Add(*patience); ; pause() { // each node waits for a different time, up to 10 s
		for _, e := range d.server.Written() {
			if e.Reason == "NetworkPolicyQuarantined" && e.InvolvedObject == want {
				t.Logf("%s %s: %s", e.Type, e.Reason, e.Message)
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no such Event among %v", d.server.Written())
		}
	}
}

// big is a pod of the node and a policy that allows that many addresses to reach it.
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
