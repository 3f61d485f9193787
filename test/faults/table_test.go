// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/train"
	"github.com/netpold/netpold/watch"
)

// A ride is a daemon with rules in force, and the train that passes them while the test waits.
type ride struct {
	*daemon
	train  *train.Train
	change int // number of the last change
}

func newRide(t *testing.T, program string, flags ...string) *ride {
	t.Helper()
	return newRideUnder(t, program, nil, flags...)
}

// newRideUnder is newRide with the daemon under a trap.
func newRideUnder(t *testing.T, program string, p *trap, flags ...string) *ride {
	t.Helper()
	r := train.New(t, prober.New(t))
	d := newDaemon(t, program, r.Step, flags...)
	d.trap = p
	d.write("world.yaml", train.World)
	d.write("permission.yaml", train.Permission)
	d.start()
	return &ride{daemon: d, train: r}
}

// next changes policies that do not concern the train. The daemon may or may not notice.
func (r *ride) next() {
	r.t.Helper()
	r.change++
	r.write("change.yaml", train.Bystanding(r.change))
}

// testOwned breaks what can be broken while netpold owns the table.
func testOwned(t *testing.T, program string) {
	r := newRide(t, program)
	r.restarts()
	r.changes()
	if !r.owned() {
		netns.Lacks(t, "tables that are owned and outlive their owner", 6, 9)
	}
	for _, change := range attacks {
		r.train.Unharmed("10 times "+change+", owned table", func() {
			for range 10 {
				out, err := r.nft(strings.Fields(change)...)
				if allowed := change == flush; (err == nil) != allowed { // which leaves owned tables alone
					t.Errorf("nft %s: %v: %s; want it allowed: %t", change, err, out, allowed)
				}
			}
		})
	}
}

// owned says whether netpold reports that it owns the table.
func (r *ride) owned() bool {
	r.t.Helper()
	return !slices.ContainsFunc(r.report().Kernel.Lacks, func(l watch.Lack) bool {
		return strings.Contains(l.What, "not owned")
	})
}

// testShared does the same with a table that others can change, and changes it.
func testShared(t *testing.T, program string) {
	r := newRide(t, program, "--own-table=false")
	r.restarts()
	r.changes()
	r.train.Unharmed("100 times another process adds a chain, and the table is replaced", func() {
		for i := range 100 {
			r.mustNFT("add", "chain", "inet", "netpold", fmt.Sprint("stranger-", i))
			r.await(again)
		}
	})
	for _, change := range attacks {
		r.windows(change)
	}
	same(t, r.daemon)
}

// What another process does to the table.
const flush = "flush ruleset"

var attacks = []string{flush, "delete table inet netpold"}

// windowRatio is how many times more may leak until netpold has restored the table than when nft restores it at once.
const windowRatio = 3

// windows repeatedly deletes the table, and counts what leaks until netpold has restored it: that must not be much more
// than when nft restores it at once, without netpold, which depends on the machine. Nothing may be dropped, and nothing
// may leak once netpold says that the table is in force again.
func (r *ride) windows(change string) {
	saved := filepath.Join(r.t.TempDir(), "saved.nft")
	if err := os.WriteFile(saved, []byte(listing(r.t, r.daemon)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	var netpold, control train.Count
	const times = 10
	for range times {
		r.window(&netpold, change, func() { r.await(again) })
		r.train.Unharmed("after "+change, func() {})
	}
	r.end(syscall.SIGTERM)
	for range times {
		r.window(&control, change, func() { r.mustNFT("-f", saved) })
		r.train.Unharmed("by hand, after "+change, func() {})
	}
	r.start()
	r.t.Logf("%s by another process, table not owned, %d times: %d of %d packets leaked, and by hand %d of %d",
		change, times, netpold.Leaked, netpold.Probes, control.Leaked, control.Probes)
	if control.Leaked == 0 {
		r.t.Errorf("%s: nothing leaked without a table", change)
	}
	if netpold.Leaked > windowRatio*control.Leaked {
		r.t.Errorf("%s: %d packets leaked, %d when the table was restored by hand", change, netpold.Leaked,
			control.Leaked)
	}
}

// window adds to c what the train sees from a change until repair has restored the table.
func (r *ride) window(c *train.Count, change string, repair func()) {
	r.t.Helper()
	seen := r.train.During(func() {
		r.mustNFT(strings.Fields(change)...)
		repair()
	})
	if seen.Dropped > 0 {
		r.t.Errorf("%s: %d wrongly dropped", change, seen.Dropped)
	}
	c.Leaked, c.Probes = c.Leaked+seen.Leaked, c.Probes+seen.Probes
}

// restarts ends, stops and starts the daemon, and changes policies meanwhile.
func (r *ride) restarts() {
	for what, signal := range map[string]os.Signal{"kill -9": syscall.SIGKILL, "SIGTERM": syscall.SIGTERM} {
		r.train.Unharmed("3 times "+what+" and restart", func() {
			for range 3 {
				r.next()
				r.end(signal)
				r.train.Steps(20)
				r.start()
			}
		})
	}
	r.train.Unharmed("SIGSTOP and SIGCONT", func() {
		r.signal(syscall.SIGSTOP)
		r.next()
		r.train.Steps(100)
		r.signal(syscall.SIGCONT)
		r.await(transaction)
	})
}

// changes makes changes that do not concern the train, one transaction each.
func (r *ride) changes() {
	n := 1000
	if testing.Short() { // as on emulated machines
		n = 100
	}
	r.train.Unharmed(fmt.Sprint(n, " changes"), func() {
		for range n {
			r.next()
			r.await(transaction)
		}
	})
}
