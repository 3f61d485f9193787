// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/denied"
)

// fakeKernel only keeps which tables have base chains, and denied packets of one pod.
type fakeKernel struct {
	apply  func(context.Context, *nft.Transaction) error // on the table; not called for what is about the handover
	hooked map[string]bool
	calls  []string
	denied uint64
	shape  nft.Shape
	unread error // why the shape cannot be read

	settled chan struct{} // lets one wait end; nil: none lasts
	waits   atomic.Int32
}

// kernelFunc returns a kernel that is a function of the transactions on the table.
func kernelFunc(apply func(context.Context, *nft.Transaction) error) *fakeKernel {
	return &fakeKernel{apply: apply, hooked: make(map[string]bool), shape: nft.Shape{Owned: true}}
}

func (k *fakeKernel) Apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error) {
	verb := "change"
	if tx.Replaces() {
		verb = "replace"
	}
	for _, op := range tx.Ops {
		if op.Chain == nil || op.Chain.Base == nil {
			continue
		}
		switch op.Verb {
		case nft.AddChain:
			k.hooked[tx.Table] = true
		case nft.DeleteChain:
			k.hooked[tx.Table], verb = false, "unhook"
		}
	}
	k.calls = append(k.calls, verb+" "+tx.Table)
	if k.apply == nil || tx.Table == frame.HandoverTable || verb == "unhook" {
		return nft.Result{}, nil
	}
	return nft.Result{}, k.apply(ctx, tx)
}

func (k *fakeKernel) Settle(ctx context.Context) error {
	k.waits.Add(1)
	if k.settled == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.settled:
		return nil
	}
}

func (k *fakeKernel) DeleteTable(_ context.Context, name string) error {
	k.calls = append(k.calls, "delete "+name)
	delete(k.hooked, name)
	return nil
}

func (k *fakeKernel) Hooked(_ context.Context, table, _ string) (bool, error) {
	return k.hooked[table], nil
}

func (k *fakeKernel) InForce(_ context.Context, table string) (bool, error) {
	return k.hooked[table], nil
}

func (k *fakeKernel) Elements(_ context.Context, table, set string, _ nft.SetType) ([]nft.Counted, error) {
	if set != "ingress-denied-4" || table != frame.TableName {
		return nil, fs.ErrNotExist
	}
	e := nft.Element{Key: nft.AddrKey(netip.MustParseAddr("10.0.0.1")), Value: nft.Value{Comment: "ns/a"}}
	return []nft.Counted{{Element: e, Packets: k.denied}}, nil
}

func (k *fakeKernel) ChainCount(_ context.Context, table, _ string) (uint64, error) {
	if table != frame.TableName {
		return 0, fs.ErrNotExist
	}
	return k.denied, nil
}

func (k *fakeKernel) Shape(_ context.Context, table string) (nft.Shape, error) {
	k.calls = append(k.calls, "look at "+table)
	return k.shape, k.unread
}

func (k *fakeKernel) Element(context.Context, string, *nft.Set, nft.Key) (nft.Counted, error) {
	return nft.Counted{}, fs.ErrNotExist
}

func (k *fakeKernel) Rules(context.Context, string, *nft.Chain) ([]nft.HeldRule, error) {
	return nil, nil
}

func (k *fakeKernel) Generation(context.Context) (uint32, error) { return uint32(len(k.calls)), nil }

// TestHandover: while the table is being replaced, a handover table is in force; a change needs none, and neither does
// a kernel without a table. What a killed netpold left in force is not touched before the new table is in force.
func TestHandover(t *testing.T) {
	for _, test := range []struct {
		name   string
		before []string // in force
		want   []string
	}{
		{"none", nil, []string{"delete netpold", "replace netpold", "delete netpold-handover", "change netpold"}},
		{
			"table",
			[]string{"netpold"},
			[]string{
				"replace netpold-handover", "unhook netpold", "delete netpold", "replace netpold",
				"unhook netpold-handover", "delete netpold-handover", "change netpold",
			},
		},
		{
			"killed",
			[]string{"netpold-handover"},
			[]string{
				"delete netpold", "replace netpold",
				"unhook netpold-handover", "delete netpold-handover", "change netpold",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kernelFunc(nil)
				for _, table := range test.before {
					k.hooked[table] = true
				}
				l, _ := newTestLoop(t, k)
				denyAll(l, "deny")
				l.Synced()
				synctest.Wait()
				setPodAt(l, "a", "10.0.0.1")
				synctest.Wait()
				if tables := strings.Count(strings.Join(k.calls, "\n"), "unhook"); int(k.waits.Load()) != tables {
					t.Errorf("%d waits for packets that are in %d tables to be deleted", k.waits.Load(), tables)
				}
				if !slices.Equal(k.calls, test.want) {
					t.Errorf("the kernel was asked to %v, want %v", k.calls, test.want)
				}
			})
		})
	}
}

// TestDenied: the total of denied packets goes on from one table to the next.
func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernelFunc(nil)
		l, _ := newTestLoop(t, k)
		k.denied = 1000 // in a table of before
		want := func(packets uint64) {
			t.Helper()
			totals, err := l.Denied(t.Context())
			by := denied.By{Direction: policy.Ingress, Namespace: "ns", Tier: "NetworkPolicy"}
			if got := totals[by]; err != nil || got != packets {
				t.Errorf("got %d packets, %v, want %d", got, err, packets)
			}
		}
		want(0)
		denyAll(l, "deny")
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		synctest.Wait()
		k.denied = 5
		want(5)
		k.denied = 7
		l.Drifted("test")
		synctest.Wait()
		k.denied = 0
		want(7)
		k.denied = 2
		want(9)
	})
}

// newTestLoop returns a loop that runs in the bubble of a synctest, and its registry.
func newTestLoop(t *testing.T, kernel Kernel) (*Loop, *prometheus.Registry) {
	t.Helper()
	return newLoopOf(t, kernel, "node")
}

// newLoopOf is newTestLoop for a node.
func newLoopOf(t *testing.T, kernel Kernel, node string) (*Loop, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	l := newIdleLoop(kernel, node)
	registry.MustRegister(l.Collectors()...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l, registry
}

// newIdleLoop returns a loop that is not running.
func newIdleLoop(kernel Kernel, node string) *Loop {
	return NewLoop(translate.New(node, translate.Options{}), LoopConfig{
		Kernel: kernel, Log: slog.New(slog.DiscardHandler), Node: node, Source: "test",
	})
}

func setPodAt(l *Loop, name, ip string) {
	l.Update(func(o Objects) {
		o.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: "node",
			IPs: []netip.Addr{netip.MustParseAddr(ip)}, Running: true,
		})
	})
}

func denyAll(l *Loop, name string) {
	l.Update(func(o Objects) {
		o.SetPolicy(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}})
	})
}

// TestNothingBeforeSynced: the rules of a previous process stay until the source is synced.
func TestNothingBeforeSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var txs []*nft.Transaction
		l, _ := newTestLoop(t, kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
			txs = append(txs, tx)
			return nil
		}))
		setPodAt(l, "a", "10.0.0.1")
		denyAll(l, "deny")
		synctest.Wait()
		if len(txs) != 0 {
			t.Fatalf("%d transactions before the source is synced", len(txs))
		}
		if text, ready := l.Ready(); ready || !strings.Contains(text, "waiting") {
			t.Errorf("ready before the source is synced: %s", text)
		}
		l.Synced()
		synctest.Wait()
		if len(txs) != 1 || !txs[0].Replaces() {
			t.Fatalf("want one transaction that replaces the table, have %d", len(txs))
		}
		if text, ready := l.Ready(); !ready {
			t.Errorf("not ready after the first transaction: %s", text)
		}
	})
}

// TestEventsDuringCommit: events during a transaction make one more, and nothing is lost.
func TestEventsDuringCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, finish := make(chan *nft.Transaction), make(chan error)
		l, _ := newTestLoop(t, kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
			begun <- tx
			return <-finish
		}))
		denyAll(l, "deny")
		l.Synced()
		<-begun
		for i, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
			setPodAt(l, string(rune('a'+i)), ip)
		}
		finish <- nil
		tx := <-begun
		finish <- nil
		if text := tx.String(); tx.Replaces() || strings.Count(text, "add element inet netpold ingress-pods-4") != 1 ||
			strings.Count(text, ": goto") != 3 {
			t.Errorf("want one small transaction with three pods, have %s", text)
		}
		synctest.Wait()
		if s := l.Status(); s.Transactions != 2 || !s.InSync {
			t.Errorf("status: %+v", s)
		}
	})
}

// TestRecovery: after a failed transaction, or a change by somebody else, the whole table is replaced.
func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var txs []*nft.Transaction
		var fail error
		l, registry := newTestLoop(t, kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
			txs = append(txs, tx)
			return fail
		}))
		denyAll(l, "deny")
		l.Synced()
		synctest.Wait()
		fail = errors.New("add element to map: no buffer space available")
		setPodAt(l, "a", "10.0.0.1")
		synctest.Wait()
		if text, ready := l.Ready(); ready || !strings.Contains(text, "no buffer space") {
			t.Errorf("after a failed transaction: ready %t, %s", ready, text)
		}
		setPodAt(l, "b", "10.0.0.2") // waits for the replacement
		synctest.Wait()
		if len(txs) != 2 {
			t.Fatalf("%d transactions, want no more before the back-off is over", len(txs))
		}
		fail = nil
		l.waitFor(t, func(s Status) bool { return s.InSync && s.Recoveries == 1 })
		last := txs[len(txs)-1]
		if !last.Replaces() || strings.Count(last.String(), ": goto ingress") != 2 {
			t.Errorf("want the whole table with both pods, have %s", last)
		}
		l.Drifted("nft")
		l.waitFor(t, func(s Status) bool { return s.InSync && s.Recoveries == 2 })
		if last := txs[len(txs)-1]; !last.Replaces() {
			t.Errorf("want the whole table after a drift, have %s", last)
		}
		for reason, want := range map[string]float64{ReasonTransaction: 1, ReasonDrift: 1} {
			if got := testutil.ToFloat64(l.metrics.recoveries.WithLabelValues(reason)); got != want {
				t.Errorf("recoveries by reason %s: %v, want %v", reason, got, want)
			}
		}
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
	})
}

// waitFor waits, in the bubble's time, for a status.
func (l *Loop) waitFor(t *testing.T, good func(Status) bool) {
	t.Helper()
	for range 100 {
		synctest.Wait()
		if good(l.Status()) {
			return
		}
		time.Sleep(minBackoff) // the bubble's clock: it takes no time
	}
	t.Fatalf("status stays %+v", l.Status())
}

// TestRejected: what does not compile is reported, and forgotten with its policy.
func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newTestLoop(t, kernelFunc(func(context.Context, *nft.Transaction) error { return nil }))
		bad := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bad"}}
		bad.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{}}}}
		l.Update(func(o Objects) { o.SetPolicy(bad) })
		l.Synced()
		synctest.Wait()
		r := l.Report()
		if all := r.Policies.Troubles; len(all) != 1 || !strings.Contains(all[0].Reason, "spec.ingress[0].from[0]") ||
			r.Policies.Troubled["rejected"] != 1 {
			t.Errorf("rejected: %+v", r.Policies)
		}
		l.Update(func(o Objects) { o.DeletePolicy(types.NamespacedName{Namespace: "ns", Name: "bad"}) })
		if r := l.Report(); len(r.Policies.Troubles) != 0 {
			t.Errorf("rejected after the policy is gone: %+v", r.Policies)
		}
	})
}

// TestHandler sends requests to the endpoints.
func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, registry := newTestLoop(t, kernelFunc(func(context.Context, *nft.Transaction) error { return nil }))
		h := Handler(l, registry)
		get := func(path string) (int, string) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			body, _ := io.ReadAll(w.Body)
			return w.Code, string(body)
		}
		if code, body := get("/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz before synced: %d %s", code, body)
		}
		l.Synced()
		synctest.Wait()
		l.Away(errors.New("connection refused"))
		for path, want := range map[string]string{
			"/livez": "ok", "/readyz": "ok; test away since", "/metrics": "netpold_transactions_total",
			"/status": `"inSync":true`,
		} {
			if code, body := get(path); code != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d %.200s", path, code, body)
			}
		}
		l.Away(nil)
		if _, body := get("/readyz"); strings.Contains(body, "away") {
			t.Errorf("/readyz after the source is back: %s", body)
		}
	})
}
