// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netpold/netpold/nft"
)

// TestMetricNames: the metrics follow Prometheus' conventions, and neither users of the cluster nor senders of packets
// can make up label values. test/monitoring does the same with everything that the program serves.
func TestMetricNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernelFunc(nil)
		l, registry := newTestLoop(t, k)
		denyAll(l, "deny")
		l.Update(func(o Objects) {
			o.SetNamespace("ns", nil)
			o.SetClusterPolicy(clusterPolicy(t, "guard", ""))
		})
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		synctest.Wait()
		k.denied = 5
		if _, err := l.Denied(t.Context()); err != nil {
			t.Error(err)
		}
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		allowed := []string{"direction", "namespace", "tier", "policy", "rule", "state", "result", "reason", "check",
			"version", "goversion"}
		found := make(map[string]bool)
		for _, f := range families {
			found[f.GetName()] = true
			for _, m := range f.GetMetric() {
				for _, label := range m.GetLabel() {
					if !slices.Contains(allowed, label.GetName()) {
						t.Errorf("%s has the label %s", f.GetName(), label.GetName())
					}
				}
			}
		}
		for _, name := range []string{"netpold_dropped_packets_total", "netpold_cluster_policy_denied_packets_total",
			"netpold_transactions_total"} {
			if !found[name] {
				t.Errorf("metrics: %v", found)
			}
		}
	})
}

// gathered returns the only value of a metric; of a histogram, the sum.
func gathered(t *testing.T, registry prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// TestSourceUp: a metric shows that the source is unreachable, which does not make the node unready.
func TestSourceUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, registry := newTestLoop(t, kernelFunc(nil))
		l.Synced()
		synctest.Wait()
		for want, err := range []error{errors.New("connection refused"), nil} {
			l.Away(err)
			if up, ready := gathered(t, registry, "netpold_source_up"),
				gathered(t, registry, "netpold_ready"); up != float64(want) || ready != 1 {
				t.Errorf("away: %v: up %v, ready %v", err, up, ready)
			}
		}
	})
}

// TestEventLatency: an event waits from its arrival to the commit, however many transactions fail before; and nothing
// waits where there was no event.
func TestEventLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		l, registry := newTestLoop(t, kernelFunc(func(context.Context, *nft.Transaction) error {
			if failing.Load() {
				return errors.New("no buffer space available")
			}
			return nil
		}))
		latency := func() float64 { return gathered(t, registry, "netpold_event_to_kernel_seconds") }
		l.Synced()
		synctest.Wait()
		if got := latency(); got != 0 {
			t.Errorf("%v s without an event", got)
		}
		failing.Store(true)
		denyAll(l, "deny")
		setPodAt(l, "a", "10.0.0.1")
		synctest.Wait()
		const wait = 10 * time.Second // of the bubble's clock
		time.Sleep(wait)
		failing.Store(false)
		l.waitFor(t, func(s Status) bool { return s.Recoveries == 1 })
		if got := latency(); got < wait.Seconds() {
			t.Errorf("%v s, want at least %v", got, wait)
		}
	})
}
