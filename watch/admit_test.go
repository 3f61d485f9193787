// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// sandboxOf returns a sandbox of a pod of the namespace ns.
func sandboxOf(id, pod, ip string) policy.Sandbox {
	return policy.Sandbox{
		ID: id, NamespacedName: types.NamespacedName{Namespace: "ns", Name: pod}, Node: "node",
		IPs: []netip.Addr{netip.MustParseAddr(ip)}, Serial: 1,
	}
}

// isolates says whether a transaction isolates an address for ingress.
func isolates(tx *nft.Transaction, ip string) bool {
	for _, op := range tx.Ops {
		for _, e := range op.Elements {
			if op.Verb == nft.AddElements && op.Set.Name == "ingress-pods-4" &&
				e.Key == nft.AddrKey(netip.MustParseAddr(ip)) {
				return true
			}
		}
	}
	return false
}

// TestAdmit: a sandbox is admitted once the kernel has confirmed its pod's isolation, and not before.
func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const commit = 3 * time.Millisecond
		held := false
		l, _ := newTestLoop(t, kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
			time.Sleep(commit)
			held = held || isolates(tx, "10.0.0.7")
			return nil
		}))
		denyAll(l, "deny")
		l.Update(func(o Objects) { // the API knows the pod, and no address of it
			o.SetPod(policy.Pod{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "new"}, Node: "node"})
		})
		l.Synced()
		time.Sleep(10 * commit)
		begun := time.Now()
		known, err := l.Admit(t.Context(), sandboxOf("1", "new", "10.0.0.7"))
		if err != nil || !known || !held {
			t.Errorf("admitted: known %t, %v; the kernel holds it: %t", known, err, held)
		}
		if took := time.Since(begun); took != commit {
			t.Errorf("it waited %s, the kernel took %s", took, commit)
		}
		begun = time.Now() // once more, with nothing to do
		if known, err := l.Admit(t.Context(), sandboxOf("1", "new", "10.0.0.7")); err != nil || !known ||
			time.Since(begun) > 0 {
			t.Errorf("admitted again: known %t, %v, after %s", known, err, time.Since(begun))
		}
	})
}

// TestAdmitBeforeTheAPI: for a pod that the API has not reported, the runtime's labels count; what the API reports
// meanwhile is waited for.
func TestAdmitBeforeTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newTestLoop(t, kernelFunc(nil))
		denyAll(l, "deny")
		l.Synced()
		synctest.Wait()
		begun := time.Now()
		known, err := l.Admit(t.Context(), sandboxOf("1", "unheard-of", "10.0.0.7"))
		if err != nil || known || time.Since(begun) != specPatience {
			t.Errorf("admitted: known %t, %v, after %s", known, err, time.Since(begun))
		}
		if p, ok := l.state.PodAt(netip.MustParseAddr("10.0.0.7")); !ok || p.Name != "unheard-of" {
			t.Errorf("the address is of %v", p)
		}
		const late = specPatience / 2
		time.AfterFunc(late, func() { setPodAt(l, "late", "10.0.0.8") })
		begun = time.Now()
		known, err = l.Admit(t.Context(), sandboxOf("2", "late", "10.0.0.8"))
		if err != nil || !known || time.Since(begun) != late {
			t.Errorf("admitted: known %t, %v, after %s", known, err, time.Since(begun))
		}
	})
}

// TestNotAdmitted: a sandbox that cannot be admitted in time gets the reason, and nothing waits for ever.
func TestNotAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newTestLoop(t, kernelFunc(nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Admit(ctx, sandboxOf("1", "a", "10.0.0.7")) // the source has not told everything
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if len(l.admissions) > 0 {
			t.Error("somebody still waits")
		}
		l.Release("1")
		if len(l.state.Sandboxes()) > 0 {
			t.Error("the sandbox was released and is still there")
		}
	})
}

// TestAdmitAfterRefusal: a refused transaction admits nobody.
func TestAdmitAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := 0
		held := false
		l, _ := newTestLoop(t, kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
			if refuse > 0 {
				refuse--
				return errors.New("no")
			}
			held = held || isolates(tx, "10.0.0.7")
			return nil
		}))
		denyAll(l, "deny")
		l.Update(func(o Objects) {
			o.SetPod(policy.Pod{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "a"}, Node: "node"})
		})
		l.Synced()
		synctest.Wait()
		refuse = 2
		if _, err := l.Admit(t.Context(), sandboxOf("1", "a", "10.0.0.7")); err != nil || !held {
			t.Errorf("admitted: %v; the kernel holds it: %t", err, held)
		}
	})
}

// TestResync: sandboxes that a runtime no longer reports are forgotten, and those that ran unknown are counted.
func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newTestLoop(t, kernelFunc(nil))
		if n := l.Resync([]policy.Sandbox{sandboxOf("1", "a", "10.0.0.7")}); n != 0 {
			t.Errorf("%d were unprotected before anything was known", n)
		}
		l.Synced()
		setPodAt(l, "b", "10.0.0.8")
		synctest.Wait()
		l.Doubt()
		if all := l.state.Sandboxes(); len(all) != 1 || !all[0].Stale {
			t.Errorf("got %v", all)
		}
		n := l.Resync([]policy.Sandbox{sandboxOf("2", "b", "10.0.0.8"), sandboxOf("3", "c", "10.0.0.9")})
		if n != 1 {
			t.Errorf("%d were unprotected, want 1", n)
		}
		if all := l.state.Sandboxes(); len(all) != 2 || all[0].ID != "2" || all[0].Stale {
			t.Errorf("got %v", all)
		}
	})
}
