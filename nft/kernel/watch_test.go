// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

func watch(t *testing.T, c *kernel.Conn) *kernel.Watcher {
	t.Helper()
	w, err := c.Watch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// next returns the next event, which must come soon.
func next(t *testing.T, w *kernel.Watcher) kernel.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	e, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The watcher reports what others do, once per transaction, however large, and nothing else.
func TestWatch(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	w := watch(t, c)
	table := standing()
	apply(t, c, table)
	for _, test := range []struct{ command, tables string }{
		{"add table inet foreign", "foreign"},
		{"add table ip t", ""},
		{"add table inet t2; add chain inet t2 c; add set inet t2 s { type ipv4_addr; }", "t2"},
		{"add element inet t hash { 10.1.0.0, 10.1.0.1, 10.1.0.2 }", "t"},
		{"add rule inet t c accept", "t"},
		{"add chain inet foreign c; flush chain inet t c", "foreign t"},
		{"flush ruleset", "foreign t t2"},
		{"delete table inet t", "t"},
	} {
		netns.NFT(t, "", test.command)
		e := next(t, w)
		slices.Sort(e.Tables)
		if e.Program != "nft" || e.Lost || strings.Join(e.Tables, " ") != test.tables {
			t.Errorf("after nft %v got %+v", test.command, e)
		}
		for range 3 { // of our own: no events
			table.Forget()
			apply(t, c, table)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if e, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v", e, err)
	}
	netns.NFT(t, "", "add", "table", "inet", "foreign") // the context of the call before does not matter any more
	if e := next(t, w); e.Program != "nft" {
		t.Errorf("got %+v", e)
	}
}

// A watcher that cannot keep up says so, says so again when it has caught up, and goes on.
func TestWatchOverrun(t *testing.T) {
	netns.Enter(t)
	c, foreign := open(t, kernel.Config{}), open(t, kernel.Config{})
	w := watch(t, c)
	table := standing()
	const transactions = 20000
	for i := range transactions {
		table.FindSet("hash").Want(nft.AddrKey(v4(i+1)), nft.Value{})
		apply(t, foreign, table)
	}
	lost, seen := 0, 0
	for next(t, w).Lost {
		lost++
	}
	for i := range transactions / 10 { // dropped as well, since the watcher has not caught up
		table.FindSet("hash").Unwant(nft.AddrKey(v4(i + 1)))
		apply(t, foreign, table)
	}
	last := false
	ctx, cancel := context.WithCancel(t.Context())
	for {
		stop := time.AfterFunc(3*time.Second, cancel) // of silence, on a busy machine
		e, err := w.Next(ctx)
		stop.Stop()
		if err != nil {
			break
		}
		if last = e.Lost; last {
			lost++
		} else {
			seen++
		}
	}
	if !last || lost > 10 || seen == 0 || seen >= transactions {
		t.Errorf("lost %d times, the last event: %t, seen %d of %d", lost, last, seen, transactions)
	}
	netns.NFT(t, "", "flush", "ruleset")
	if e := next(t, w); e.Lost || e.Program != "nft" {
		t.Errorf("got %+v", e)
	}
}

// Our own large transaction is not an event, and others' commits meanwhile are not missed.
func TestWatchWhileLarge(t *testing.T) {
	netns.Enter(t)
	c, foreign := open(t, kernel.Config{}), open(t, kernel.Config{})
	w := watch(t, c)
	table, other := nft.NewTable("t", ""), nft.NewTable("other", "")
	s := table.Set("s", nft.SetType{Family: nft.IPv4}, "")
	for i := range 20000 {
		s.Want(nft.AddrKey(v4(i)), nft.Value{})
	}
	apply(t, c, table)
	apply(t, foreign, other)
	if e := next(t, w); e.Lost || !slices.Equal(e.Tables, []string{"other"}) {
		t.Errorf("got %+v", e)
	}

	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		committed := make(chan int)
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				other.Forget()
				if _, err := foreign.Apply(t.Context(), other.Take()); err != nil {
					t.Error(err)
				}
			}
			committed <- n
		}()
		table.Forget()
		apply(t, c, table)
		cancel()
		seen, lost := 0, false
		n := <-committed
		for !lost && seen < n {
			e := next(t, w)
			seen++
			lost = e.Lost
		}
		if lost {
			return
		}
	}
	t.Error("in 100 transactions nobody else committed while the watcher did not listen")
}

func TestWatchClose(t *testing.T) {
	netns.Enter(t)
	w := watch(t, open(t, kernel.Config{}))
	time.AfterFunc(20*time.Millisecond, func() { _ = w.Close() })
	for range 2 {
		if e, err := w.Next(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %+v, %v", e, err)
		}
	}
}
