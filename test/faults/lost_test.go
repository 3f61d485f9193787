// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/train"
)

// What netpold logs when the kernel could not report all changes.
const unchanged = `msg="the table is unchanged"`

// testFirst deletes the table after each message of the first transaction: netpold must not say that it is in sync
// until the table is back.
func testFirst(t *testing.T, program string) {
	netns.Enter(t)
	p := &trap{t: t}
	p.set(fault{at: func(int) bool { return false }})
	d := firstDaemon(t, program, p, pause)
	d.start()
	_, sends := p.clear()
	d.end(syscall.SIGKILL)
	d.mustNFT("flush", "ruleset")
	// First netpold tries out the kernel. Then come two queries, deleting the previous table, building this one, and
	// deleting the handover.
	for n := sends - 5; n < sends; n++ {
		d = firstDaemon(t, program, p, pause)
		h := p.hold(n)
		d.idle = func() { h.meanwhile(func() { netns.NFT(t, "", "flush", "ruleset") }) }
		d.start()
		for inSync := false; !inSync; pause() {
			_, err := d.run(exec.Command(program, "status"))
			inSync = err == nil
		}
		listing(t, d)
		d.end(syscall.SIGKILL)
		d.mustNFT("flush", "ruleset")
	}
}

// firstDaemon returns a daemon under a trap, without a train.
func firstDaemon(t *testing.T, program string, p *trap, idle func()) *daemon {
	t.Helper()
	d := newDaemon(t, program, idle, "--own-table=false")
	d.trap = p
	d.write("world.yaml", train.World)
	d.write("permission.yaml", train.Permission)
	return d
}

// testLost makes the kernel lose notifications, because of others' and netpold's own large transactions, with and
// without a deleted table, repeatedly within 30 s.
func testLost(t *testing.T, program string) {
	p := &trap{t: t}
	r := newRideUnder(t, program, p, "--own-table=false")
	r.train.Unharmed("5 times a listener that cannot keep up", func() {
		for range 5 {
			r.overrun(func() {})
			r.await(unchanged)
		}
	})
	for i := range 3 {
		r.overrun(func() { r.mustNFT(strings.Fields(attacks[i%2])...) })
		r.await(again)
		r.await(transaction)
	}
	if n := r.recoveries("drift"); n != 3 {
		t.Errorf("%d recoveries, want one for each time that the table was deleted", n)
	}
	foreign := func() { netns.NFT(t, "", "add table inet stranger; delete table inet stranger") }
	for n, more := 0, true; more; n++ {
		_, more = r.large(n, foreign)
		r.next()
		r.await(transaction)
	}
	if n := r.recoveries("drift"); n != 3 {
		t.Errorf("%d more recoveries because of other tables", n-3)
	}
	flushed := 0
	for n, more := 0, true; more; n++ {
		var line string
		if line, more = r.large(n, func() { netns.NFT(t, "", flush); flushed++ }); line == "" {
			continue
		}
		if !strings.Contains(line, again) {
			r.await(again)
		}
		r.await(transaction)
	}
	t.Logf("the table was deleted %d times, each after another message of a large change, and came back", flushed)
	if flushed < 3 { // before, during and after it
		t.Error("that does not cover the change")
	}
	r.train.Unharmed("after all that", func() {})
	same(t, r.daemon)
}

// overrun makes the kernel lose notifications for a stopped netpold, and then calls last.
func (r *ride) overrun(last func()) {
	r.t.Helper()
	r.signal(syscall.SIGSTOP)
	foreign, err := kernel.Open(kernel.Config{})
	netns.Require(r.t, err)
	defer foreign.Close()
	table := nft.NewTable("foreign", "")
	s := table.Set("s", nft.SetType{Family: nft.IPv4}, "")
	for i := range 20000 {
		s.Want(nft.AddrKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), nft.Value{})
		if _, err := foreign.Apply(r.t.Context(), table.Take()); err != nil {
			r.t.Fatal(err)
		}
	}
	last()
	r.signal(syscall.SIGCONT)
}

// large makes a change so large that netpold does not listen while it commits it, and calls meanwhile when the n-th
// message is sent and not yet answered. It returns what netpold logs then of a transaction, or "" if the n-th message
// has no answer, and whether there are more.
func (r *ride) large(n int, meanwhile func()) (line string, more bool) {
	r.t.Helper()
	r.change++
	var blocks strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&blocks, "{ipBlock: {cidr: %d.1.%d.%d/32}}, ", 20+r.change, i>>7, i<<1&0xff)
	}
	h := r.trap.hold(n)
	idle := r.idle
	r.idle = func() { h.meanwhile(meanwhile); idle() }
	r.write("large.yaml", fmt.Sprintf(`
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: large, namespace: shop},
 spec: {podSelector: {matchLabels: {app: bystander}}, ingress: [{from: [%s]}]}}
`, blocks.String()))
	for operations := 0; operations < 6000; { // other transactions only delete what was retired
		line = r.await("operations=")
		_, after, _ := strings.Cut(line, "operations=")
		if _, err := fmt.Sscan(after, &operations); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
	}
	_, sends := r.trap.clear()
	r.idle = idle
	if h.called {
		return line, n < sends
	}
	time.Sleep(20 * time.Millisecond) // in case a message is held after all
	h.meanwhile(func() {})
	return "", n < sends
}

// A hold delays the answer to a message.
type hold struct {
	reached, released chan struct{}
	called            bool
}

// hold delays the answer to the n-th netlink message from now on until meanwhile.
func (p *trap) hold(n int) *hold {
	h := &hold{reached: make(chan struct{}), released: make(chan struct{})}
	p.set(fault{answers: true, at: func(i int) bool { return i == n }, wait: func() {
		close(h.reached)
		<-h.released
	}})
	return h
}

// meanwhile calls f if the message is waiting for its answer, and then releases the answer.
func (h *hold) meanwhile(f func()) {
	select {
	case <-h.reached:
		h.reached = nil // never again
		h.called = true
		f()
		time.Sleep(20 * time.Millisecond) // so that netpold, which also listens, gets the notification
		close(h.released)
	default:
		pause()
	}
}
