// SPDX-License-Identifier: Apache-2.0

// Package train sends a stream of new connections through the forward hook while a test breaks things. Some must pass,
// and the others must not.
//
//	r := train.New(t, prober.New(t))
//	... netpold enforces train.World and train.Permission ...
//	r.Unharmed("the server is away", func() { ... r.Step() ... })
package train

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/prober"
)

// A Train is a stream of new connections over IPv4 and IPv6. It is for one goroutine at a time.
type Train struct {
	t      testing.TB
	prober *prober.Prober
	probes []prober.Probe
	passes []bool // by probe
	name   string // of the fault that must do no harm, or ""

	Count
}

// A Count is what happened to a train's packets.
type Count struct {
	Probes, Leaked, Dropped int
	First, Last             time.Time // before the first, and after the last batch with a wrong verdict
}

// Wrong is the number of wrong verdicts.
func (c Count) Wrong() int { return c.Leaked + c.Dropped }

// Window is the time during which verdicts were wrong, with the precision of a batch.
func (c Count) Window() time.Duration { return c.Last.Sub(c.First) }

// New returns a train through the prober's namespace.
func New(t testing.TB, p *prober.Prober) *Train {
	r := &Train{t: t, prober: p}
	add := func(passes bool, src, dst string, proto uint8, port uint16) {
		r.probes = append(r.probes, prober.Probe{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
			Proto: proto, DstPort: port})
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

// Step sends all probes once.
func (r *Train) Step() {
	r.t.Helper()
	start := time.Now()
	passed, err := r.prober.Run(r.probes)
	if err != nil {
		r.t.Fatal(err)
	}
	before := r.Wrong()
	r.Probes += len(passed)
	for i, ok := range passed {
		switch {
		case ok && !r.passes[i]:
			r.Leaked++
			r.wrong("leaked", i)
		case !ok && r.passes[i]:
			r.Dropped++
			r.wrong("dropped", i)
		}
	}
	if r.Wrong() == before {
		return
	}
	if r.First.IsZero() {
		r.First = start
	}
	r.Last = time.Now()
}

// wrong logs the first few wrong verdicts of a fault.
func (r *Train) wrong(what string, i int) {
	r.t.Helper()
	if r.name != "" && r.Wrong() <= 3 {
		r.t.Logf("%s: %s: %s", r.name, what, r.probes[i])
	}
}

// Steps sends all probes n times.
func (r *Train) Steps(n int) {
	r.t.Helper()
	for range n {
		r.Step()
	}
}

// Settled steps until no verdict is wrong. Tests begin with it, because nothing is in force at first.
func (r *Train) Settled(patience time.Duration) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		r.Count = Count{}
		if r.Step(); r.Wrong() == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("after %s the policies are not in force: %d leaked, %d wrongly dropped", patience,
				r.Leaked, r.Dropped)
		}
	}
}

// During returns what happens to the train during a fault, and shortly after. The fault must step.
func (r *Train) During(fault func()) Count {
	r.t.Helper()
	r.Count = Count{}
	fault()
	r.Steps(20)
	return r.Count
}

// Unharmed is During. It logs the counts, and fails the test if a packet passed or was dropped wrongly.
func (r *Train) Unharmed(name string, fault func()) {
	r.t.Helper()
	r.name = name
	c := r.During(fault)
	r.name = ""
	r.t.Logf("%s: %d probes, %d leaked, %d wrongly dropped", name, c.Probes, c.Leaked, c.Dropped)
	if c.Wrong() > 0 {
		r.t.Errorf("%s: wrong verdicts within %s; want none", name, c.Window())
	}
}
