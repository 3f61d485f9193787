// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/prober"
)

// world has the pods of the train: web and bystander are on the node, the others are not.
const world = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {nodeName: node-1}, status: {phase: Running, podIPs: [{ip: 10.0.1.1}, {ip: "fd00:1::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: bystander, namespace: shop, labels: {app: bystander}}, spec: {nodeName: node-1}, status: {phase: Running, podIPs: [{ip: 10.0.1.2}, {ip: "fd00:1::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: shop, labels: {app: client}}, spec: {nodeName: node-2}, status: {phase: Running, podIPs: [{ip: 10.0.2.1}, {ip: "fd00:2::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop, labels: {app: other}}, spec: {nodeName: node-2}, status: {phase: Running, podIPs: [{ip: 10.0.2.2}, {ip: "fd00:2::2"}]}}
`

// permission lets client reach web by TCP 80 and UDP 53, and web reach client by TCP 443; web has nothing else.
const permission = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 53}]
  egress:
  - to: [{namespaceSelector: {matchLabels: {team: shop}}, podSelector: {matchLabels: {app: client}}}]
    ports: [{protocol: TCP, port: 443}]
`

// A train is a stream of new connections, of which some must pass and the others must not.
type train struct {
	t      *testing.T
	prober *prober.Prober
	probes []prober.Probe
	passes []bool // by probe

	change int // the last that was made

	count
}

// A count is what a train has seen.
type count struct {
	probes, leaked, dropped int
	first, last             time.Time // before the first, and after the last batch with a wrong verdict
}

// newTrain returns a train through the prober's namespace.
func newTrain(t *testing.T, p *prober.Prober) *train {
	r := &train{t: t, prober: p}
	add := func(passes bool, src, dst string, proto uint8, port uint16) {
		r.probes = append(r.probes, prober.Probe{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: proto, DstPort: port})
		r.passes = append(r.passes, passes)
	}
	for _, a := range []struct{ web, bystander, client, other string }{
		{"10.0.1.1", "10.0.1.2", "10.0.2.1", "10.0.2.2"}, {"fd00:1::1", "fd00:1::2", "fd00:2::1", "fd00:2::2"},
	} {
		add(true, a.client, a.web, unix.IPPROTO_TCP, 80)
		add(true, a.client, a.web, unix.IPPROTO_UDP, 53)
		add(true, a.web, a.client, unix.IPPROTO_TCP, 443)
		add(true, a.other, a.client, unix.IPPROTO_TCP, 80) // no policy selects either
		add(false, a.client, a.web, unix.IPPROTO_TCP, 81)
		add(false, a.other, a.web, unix.IPPROTO_TCP, 80)
		add(false, a.other, a.web, unix.IPPROTO_UDP, 53)
		add(false, a.web, a.client, unix.IPPROTO_TCP, 80)
		add(false, a.web, a.bystander, unix.IPPROTO_UDP, 53)
	}
	for range 2 { // some more for each sentinel
		r.probes, r.passes = append(r.probes, r.probes...), append(r.passes, r.passes...)
	}
	return r
}

// step sends all probes once.
func (r *train) step() {
	r.t.Helper()
	start := time.Now()
	passed, err := r.prober.Run(r.probes)
	if err != nil {
		r.t.Fatal(err)
	}
	before := r.leaked + r.dropped
	r.count.probes += len(passed)
	for i, ok := range passed {
		switch {
		case ok && !r.passes[i]:
			r.leaked++
			r.wrong("leaked", i)
		case !ok && r.passes[i]:
			r.dropped++
			r.wrong("dropped", i)
		}
	}
	if r.leaked+r.dropped == before {
		return
	}
	if r.first.IsZero() {
		r.first = start
	}
	r.last = time.Now()
}

// wrong logs the first few wrong verdicts.
func (r *train) wrong(what string, i int) {
	r.t.Helper()
	if r.change > 0 && r.leaked+r.dropped <= 3 {
		r.t.Logf("%s: %s, change %d", what, r.probes[i], r.change)
	}
}

// steps sends all probes n times.
func (r *train) steps(n int) {
	r.t.Helper()
	for range n {
		r.step()
	}
}

// during returns and logs what the train sees while the fault happens, and a little longer.
func (r *train) during(name string, fault func()) count {
	r.t.Helper()
	r.count = count{}
	fault()
	r.steps(20)
	r.t.Logf("%s: %d probes, %d leaked, %d wrongly dropped in %s", name, r.count.probes, r.leaked, r.dropped, r.last.Sub(r.first))
	return r.count
}

// unharmed fails the test if the fault lets a packet through, or drops one, that it should not.
func (r *train) unharmed(name string, fault func()) {
	r.t.Helper()
	if c := r.during(name, fault); c.leaked+c.dropped > 0 {
		r.t.Errorf("%s: %d leaked, %d wrongly dropped; want none of either", name, c.leaked, c.dropped)
	}
}
