// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/netpold/netpold/nft"
)

// gate holds each transaction on the table until it is let through.
type gate chan *nft.Transaction

func (g gate) apply(_ context.Context, tx *nft.Transaction) error {
	g <- tx
	<-g
	return nil
}

// next waits until a transaction is held, and returns it; open lets it through and waits for what follows from that.
func (g gate) next() *nft.Transaction { return <-g }

func (g gate) open() {
	g <- nil
	synctest.Wait()
}

// TestDriftInFlight: a table that somebody else changes while a transaction is in flight, the first one too, is replaced once more; until
// then netpold is neither ready nor in sync, whatever becomes of the transaction.
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
				l.wantDoubt(t, "another program, nft, changed the table")
				if tx := g.next(); !tx.Replaces() {
					t.Errorf("want the whole table, have %s", tx)
				}
				l.wantDoubt(t, "another program, nft, changed the table")
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
