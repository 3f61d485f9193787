// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netpold/netpold/watch/preflight"
)

// dropLogUp is what the metric says.
func (d *dropTest) dropLogUp(t *testing.T) float64 {
	t.Helper()
	metrics, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		if m.GetName() == "netpold_drop_log_up" {
			return m.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no metric netpold_drop_log_up")
	return 0
}

// TestDropLogFails: a log that fails is opened again, with a growing pause; that it is off, and that it works again, is said once.
func TestDropLogFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		d.Findings = func(int) []preflight.Finding { return nil }
		d.registry.MustRegister(NewStateCollector(d.Loop))
		blocked := []Drop{d.drop("10.0.0.0", "10.0.0.1", 6379)}
		if r := d.Report().DropLog; r == nil || r.OffSince != nil || d.dropLogUp(t) != 1 {
			t.Errorf("while it is read: %+v", r)
		}

		d.taken.Store(true)
		d.fail <- errors.New("broken")
		d.expect(t, `level=WARN msg="drop logging is off until it works again; enforcement is not affected" `+
			`err="read the log of denied packets: broken"`)
		const away = time.Hour
		opened := d.opened.Load()
		time.Sleep(away)
		d.expect(t)
		// 1 s, 2 s and so on to 32 s are the first 63 s, and then there is one a minute.
		if got, want := d.opened.Load()-opened, 6+int64((away-63*time.Second)/maxDropBackoff); got != want {
			t.Errorf("opened %d times in %s, want %d", got, away, want)
		}
		r := d.Report().DropLog
		if r == nil || r.OffSince == nil || time.Since(*r.OffSince) != away || !strings.Contains(r.Error, "another process") {
			t.Errorf("while it is off: %+v", r)
		}
		if got := d.dropLogUp(t); got != 0 {
			t.Errorf("while it is off: netpold_drop_log_up %v", got)
		}

		d.taken.Store(false)
		time.Sleep(maxDropBackoff)
		d.expect(t, `level=INFO msg="drop logging works again" off=1h0m`)
		d.batches <- blocked
		d.expect(t, "not TCP 6379)")
		if r := d.Report().DropLog; r.OffSince != nil || d.dropLogUp(t) != 1 {
			t.Errorf("when it works again: %+v", r)
		}
		if problems, err := testutil.GatherAndLint(d.registry, "netpold_drop_log_up"); err != nil || len(problems) > 0 {
			t.Error(problems, err)
		}
	})
}

// TestDropLogTaken: a log that cannot be opened at the start is opened later.
func TestDropLogTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		var free atomic.Bool
		f := d.OpenDrops(func() (Drops, error) {
			if !free.Load() {
				return nil, errors.New("taken")
			}
			return d.fakeDrops, nil
		})
		d.expect(t, "drop logging is off")
		free.Store(true)
		go f.Run(t.Context())
		time.Sleep(minDropBackoff)
		d.expect(t, "drop logging works again")
	})
}
