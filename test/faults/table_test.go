// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netpold/netpold/test/netns"
	"github.com/netpold/netpold/test/prober"
	"github.com/netpold/netpold/test/train"
	"github.com/netpold/netpold/watch"
)

// A ride is a daemon whose rules are in force, and the train that passes them while the test waits.
type ride struct {
	*daemon
	train  *train.Train
	change int // the last that was made
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

// next changes policies that do not concern the train. The daemon may or may not get to it.
func (r *ride) next() {
	r.t.Helper()
	r.change++
	r.write("change.yaml", train.Bystanding(r.change))
}

// testOwned breaks what can be broken while the kernel keeps the table for netpold.
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
				if allowed := change == flush; (err == nil) != allowed { // it passes an owned table by
					t.Errorf("nft %s: %v: %s; want it allowed: %t", change, err, out, allowed)
				}
			}
		})
	}
}

// owned says whether netpold owns the table, by its own word.
func (r *ride) owned() bool {
	r.t.Helper()
	out, err := r.run(exec.Command(r.program, "status", "-o", "json"))
	var report watch.Report
	if err := errors.Join(err, json.Unmarshal([]byte(out), &report)); err != nil {
		r.t.Fatalf("netpold status: %v: %s", err, out)
	}
	return !slices.ContainsFunc(report.Kernel.Lacks, func(l watch.Lack) bool { return strings.Contains(l.What, "not owned") })
}

// testShared does the same with a table that others can change, and lets them.
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

// windows takes the table away, again and again, and logs what got through until netpold had put it back. That is a matter of time, which
// is the machine's, so there is no limit to it here; but nothing may be dropped, and nothing may get through when netpold says that the
// table is in force again.
func (r *ride) windows(change string) {
	var leaked int
	var windows []time.Duration
	for range 10 {
		c := r.train.During(func() {
			r.mustNFT(strings.Fields(change)...)
			r.await(again)
		})
		if c.Dropped > 0 {
			r.t.Errorf("%s: %d wrongly dropped", change, c.Dropped)
		}
		leaked += c.Leaked
		windows = append(windows, c.Window())
		r.train.Unharmed("after "+change, func() {})
	}
	slices.Sort(windows)
	r.t.Logf("%s by another process, table not owned, %d times: %d packets leaked, for %s to %s, median %s",
		change, len(windows), leaked, windows[0], windows[len(windows)-1], windows[len(windows)/2])
}

// restarts ends, stops and starts the daemon, and changes policies under it.
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
	r.train.Unharmed("1,000 changes", func() {
		for range 1000 {
			r.next()
			r.await(transaction)
		}
	})
}
