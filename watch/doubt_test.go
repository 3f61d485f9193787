// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
)

// gate holds each transaction on the table until it is let through.
type gate chan *nft.Transaction

func (g gate) apply(_ context.Context, tx *nft.Transaction) error {
	g <- tx
	<-g
	return nil
}

// next waits until a transaction is held, and returns it; open lets it through and waits for the consequences.
func (g gate) next() *nft.Transaction { return <-g }

func (g gate) open() {
	g <- nil
	synctest.Wait()
}

// TestDriftInFlight: a table that somebody else changes while a transaction is in flight, even the first, is replaced
// again; until then netpold is neither ready nor in sync, whatever becomes of the transaction.
func TestDriftInFlight(t *testing.T) {
	for name, before := range map[string]func(*Loop, gate){
		"first": func(*Loop, gate) {},
		"later": func(l *Loop, g gate) {
			g.next()
			g.open()
			setPodAt(l, "a", "10.0.0.1")
		},
		"replacement": func(l *Loop, g gate) {
			g.next()
			g.open()
			l.Drifted("first")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := make(gate)
				l, _ := newTestLoop(t, kernelFunc(g.apply))
				denyAll(l, "deny")
				l.Synced()
				before(l, g)
				g.next()
				l.Drifted("nft")
				g.open()
				l.wantDoubt(t, "another program (nft) changed the table")
				if tx := g.next(); !tx.Replaces() {
					t.Errorf("want the whole table, have %s", tx)
				}
				l.wantDoubt(t, "another program (nft) changed the table")
				g.open()
				l.wantReady(t)
			})
		})
	}
}

// TestDriftBeforeFirst: before the first transaction has begun, the table is a previous process's.
func TestDriftBeforeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		l, _ := newTestLoop(t, kernelFunc(g.apply))
		denyAll(l, "deny")
		l.Drifted("nft")
		l.Synced()
		g.next()
		g.open()
		l.wantReady(t)
		if s := l.Status(); s.Transactions != 1 {
			t.Errorf("%d transactions, want one", s.Transactions)
		}
	})
}

// TestLost: whenever the kernel may have lost notifications, the table is checked, however soon after the last time. It
// is replaced only if it has changed.
func TestLost(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*fakeKernel)
		want   int // replacements
	}{
		"nothing":  {func(*fakeKernel) {}, 0},
		"unhooked": {func(k *fakeKernel) { k.hooked[frame.TableName] = false }, 1},
		"emptied":  {func(k *fakeKernel) { k.shape = nft.Shape{} }, 1},
		"gone":     {func(k *fakeKernel) { k.unread = fs.ErrNotExist }, 1},
		"unhooked, sizes not readable": {func(k *fakeKernel) {
			k.hooked[frame.TableName], k.shape, k.unread = false, nft.Shape{}, errors.New("torn")
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, k := newLookedAt(t)
				for range 3 {
					k.calls = nil
					test.change(k)
					l.Lost()
					time.Sleep(time.Second)
					l.wantReady(t)
					if n := k.count("replace netpold"); n != test.want || k.count("look at netpold")+n == 0 {
						t.Errorf("the kernel was asked to %v; want %d replacements", k.calls, test.want)
					}
				}
			})
		})
	}
}

// TestLostInFlight: the check comes after the transaction.
func TestLostInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		k := kernelFunc(g.apply)
		l, _ := newTestLoop(t, k)
		denyAll(l, "deny")
		l.Synced()
		g.next() // the first, in which the table is emptied
		l.Lost()
		k.shape = nft.Shape{}
		g.open()
		for range 2 { // so it is while that is mended, which the kernel tells of
			l.wantDoubt(t, "notifications of table changes were lost")
			if tx := g.next(); !tx.Replaces() {
				t.Errorf("want the whole table, have %s", tx)
			}
			l.Lost()
			g.open()
			time.Sleep(time.Second)
		}
		g.next()
		k.shape = nft.Shape{Owned: true}
		g.open()
		l.wantReady(t)
	})
}

// TestLostUnknown: while the table cannot be checked, nothing is replaced, changes are committed, and it is tried again
// at least every second.
func TestLostUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, k := newLookedAt(t)
		k.shape, k.unread = nft.Shape{}, errors.New("torn")
		l.Lost()
		time.Sleep(time.Minute)
		setPodAt(l, "a", "10.0.0.1")
		synctest.Wait()
		if k.count("replace netpold") != 1 || k.count("change netpold") != 1 || k.count("look at netpold") < 60 {
			t.Errorf("the kernel was asked to %v", k.calls)
		}
		l.wantDoubt(t, "notifications of table changes were lost")
		k.shape, k.unread = nft.Shape{Owned: true}, nil
		l.Status() // so that the loop sees it: its lock is what both take
		time.Sleep(time.Second)
		l.wantReady(t)
	})
}

// TestMiscounted: if the table never reads as the loop expects, replacements do not keep the node busy.
func TestMiscounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernelFunc(nil)
		l, _ := newTestLoop(t, k)
		denyAll(l, "deny")
		l.Synced()
		synctest.Wait()
		k.shape = nft.Shape{}
		for range 600 {
			l.Lost()
			time.Sleep(time.Second)
		}
		if n := k.count("replace netpold"); n < 20 || n > 40 {
			t.Errorf("%d replacements in ten minutes", n)
		}
	})
}

// newLookedAt returns a loop with its table in force, and a kernel that a replacement repairs.
func newLookedAt(t *testing.T) (*Loop, *fakeKernel) {
	t.Helper()
	k := kernelFunc(nil)
	k.apply = func(_ context.Context, tx *nft.Transaction) error {
		if tx.Replaces() {
			k.shape, k.unread = nft.Shape{Owned: true}, nil
		}
		return nil
	}
	l, _ := newTestLoop(t, k)
	denyAll(l, "deny")
	l.Synced()
	l.wantReady(t)
	return l, k
}

// count returns how often the kernel was asked to do something.
func (k *fakeKernel) count(call string) int {
	n := 0
	for _, c := range k.calls {
		if c == call {
			n++
		}
	}
	return n
}

// wantDoubt wants the loop to be neither ready nor in sync, and to say why.
func (l *Loop) wantDoubt(t *testing.T, why string) {
	t.Helper()
	if text, ready := l.Ready(); ready || !strings.Contains(text, why) {
		t.Errorf("ready %t: %s; want it not ready: %s", ready, text, why)
	}
	if l.Status().InSync || l.report().InSync {
		t.Error("in sync, in doubt")
	}
}

// wantReady wants the loop to be ready and in sync.
func (l *Loop) wantReady(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if text, ready := l.Ready(); !ready || !l.Status().InSync {
		t.Errorf("in sync %t, ready %t: %s", l.Status().InSync, ready, text)
	}
}
