// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/netns"
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

// next returns the next event, which is to come soon.
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

// The watcher tells of what others do, once for each transaction however large, and of nothing else.
func TestWatch(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	w := watch(t, c)
	table := standing()
	apply(t, c, table)
	last := uint32(0)
	for i, command := range [][]string{
		{"add", "table", "inet", "foreign"},
		{"add element inet t hash { 10.1.0.0, 10.1.0.1, 10.1.0.2 }"},
		{"flush", "ruleset"},
		{"delete", "table", "inet", "t"},
	} {
		nftCommand(t, "", command...)
		e := next(t, w)
		if e.Program != "nft" || e.PID == 0 || e.Generation <= last || e.Lost {
			t.Errorf("after nft %v got %+v", command, e)
		}
		last = e.Generation
		for j := range 3 { // of our own: no events
			table.Set("hash", nft.SetType{Family: nft.IPv4}, "").Want(nft.AddrKey(v4(100*i+j)), nft.Value{})
			table.Forget()
			apply(t, c, table)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if e, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v", e, err)
	}
	nftCommand(t, "", "add", "table", "inet", "foreign") // the context of the call before does not matter any more
	if e := next(t, w); e.Generation <= last {
		t.Errorf("got %+v", e)
	}
}

// A watcher that cannot keep up says so once, and goes on.
func TestWatchOverrun(t *testing.T) {
	netns.Enter(t)
	c, foreign := open(t, kernel.Config{}), open(t, kernel.Config{})
	w := watch(t, c)
	table := standing()
	const transactions = 5000
	for i := range transactions {
		table.FindSet("hash").Want(nft.AddrKey(v4(i+1)), nft.Value{})
		apply(t, foreign, table)
	}
	lost, seen := 0, 0
	for next(t, w).Lost {
		lost++
	}
	ctx, cancel := context.WithCancel(t.Context())
	for {
		stop := time.AfterFunc(100*time.Millisecond, cancel)
		e, err := w.Next(ctx)
		stop.Stop()
		if err != nil {
			break
		}
		if e.Lost {
			lost++
		}
		seen++
	}
	if lost != 1 || seen == 0 || seen >= transactions {
		t.Errorf("lost %d times, seen %d of %d", lost, seen, transactions)
	}
	nftCommand(t, "", "flush", "ruleset")
	if e := next(t, w); e.Lost || e.Program != "nft" {
		t.Errorf("got %+v", e)
	}
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
