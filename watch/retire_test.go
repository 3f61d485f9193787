// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
)

// retiring is a loop whose kernel waits for packets as long as the test wants.
type retiring struct {
	*Loop
	kernel   *fakeKernel
	registry *prometheus.Registry
	txs      []*nft.Transaction
	fail     error
}

func newRetiring(t *testing.T) *retiring {
	t.Helper()
	r := new(retiring)
	r.kernel = kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
		r.txs = append(r.txs, tx)
		return r.fail
	})
	r.Loop, r.registry = newTestLoop(t, r.kernel)
	r.kernel.settled = make(chan struct{})
	denyAll(r.Loop, "one")
	setPodAt(r.Loop, "a", "10.0.0.1")
	r.Synced()
	synctest.Wait()
	return r
}

// deletes says whether a transaction deletes chains.
func deletes(tx *nft.Transaction) bool { return strings.Contains(tx.String(), "delete chain") }

// another changes the pods' isolation.
func (r *retiring) another(name string) {
	denyAll(r.Loop, name)
	synctest.Wait()
}

// latencies is how often the time from an event to the kernel was taken.
func (r *retiring) latencies(t *testing.T) uint64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "netpold_event_to_kernel_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}

// packetsLeave ends one wait for them.
func (r *retiring) packetsLeave() {
	r.kernel.settled <- struct{}{}
	synctest.Wait()
}

// TestReap: what a transaction retires is deleted once, without an event, when the packets in flight have left.
func TestReap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetiring(t)
		r.another("two")
		if len(r.txs) != 2 || deletes(r.txs[1]) {
			t.Fatalf("%d transactions, the last is\n%s", len(r.txs), r.txs[len(r.txs)-1])
		}
		r.another("three") // the packets that it is about have not been waited for
		r.packetsLeave()
		if len(r.txs) != 4 || strings.Count(r.txs[3].String(), "delete chain") != 1 {
			t.Fatalf("%d transactions, the last is\n%s", len(r.txs), r.txs[len(r.txs)-1])
		}
		r.packetsLeave()
		if len(r.txs) != 5 || strings.Count(r.txs[4].String(), "delete chain") != 1 {
			t.Fatalf("%d transactions, the last is\n%s", len(r.txs), r.txs[len(r.txs)-1])
		}
		if waits := r.kernel.waits.Load(); waits != 2 {
			t.Errorf("%d waits, want 2", waits)
		}
		if n := r.latencies(t); n != 3 {
			t.Errorf("the time from event to kernel was taken %d times, want 3", n)
		}
		if s := r.Status(); !s.InSync || s.Transactions != 5 {
			t.Errorf("status: %+v", s)
		}
	})
}

// TestNotInSyncWhileLate: the loop is not in sync while the kernel has unwanted elements.
func TestNotInSyncWhileLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetiring(t)
		r.Update(func(o Objects) { // the last policy goes, and so does the pod's element of what always passes
			o.DeletePolicy(types.NamespacedName{Namespace: "ns", Name: "one"})
		})
		synctest.Wait()
		if len(r.txs) != 2 || r.Status().InSync {
			t.Errorf("%d transactions, in sync: %t, the last is\n%s", len(r.txs), r.Status().InSync,
				r.txs[len(r.txs)-1])
		}
		r.packetsLeave()
		if len(r.txs) != 3 || !r.Status().InSync ||
			!strings.Contains(r.txs[2].String(), "delete element inet netpold self-4") {
			t.Errorf("%d transactions, in sync: %t, the last is\n%s", len(r.txs), r.Status().InSync,
				r.txs[len(r.txs)-1])
		}
	})
}

// TestNothingRetiredAfterReplacement: a failed transaction leaves nothing to be reaped.
func TestNothingRetiredAfterReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetiring(t)
		r.another("two")
		r.fail = errors.New("no buffer space available")
		r.another("three")
		r.fail = nil
		go func() { // for what was retired, and then for the packets in the tables that are replaced
			for {
				select {
				case r.kernel.settled <- struct{}{}:
				case <-t.Context().Done():
					return
				}
			}
		}()
		r.waitFor(t, func(s Status) bool { return s.InSync && s.Recoveries == 1 })
		if last := r.txs[len(r.txs)-1]; !last.Replaces() {
			t.Errorf("the last transaction is\n%s", last)
		}
	})
}
