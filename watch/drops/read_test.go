// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestDropLogFails: a failed log is reopened, with growing pauses; its failure and its recovery are logged once.
func TestDropLogFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		blocked := []Packet{d.drop("10.0.0.0", "10.0.0.1", 6379)}
		if r := d.State(); r == nil || r.OffSince != nil {
			t.Errorf("while it is read: %+v", r)
		}

		d.taken.Store(true)
		d.fail <- errors.New("broken")
		d.Expect(t, `level=WARN msg="drop logging stopped; enforcement unaffected" `+
			`err="read the log of denied packets: broken"`)
		const away = time.Hour
		opened := d.opened.Load()
		time.Sleep(away)
		d.Expect(t)
		// 1 s, 2 s and so on to 32 s are the first 63 s, and then there is one a minute.
		if got, want := d.opened.Load()-opened, 6+int64((away-63*time.Second)/maxBackoff); got != want {
			t.Errorf("opened %d times in %s, want %d", got, away, want)
		}
		r := d.State()
		if r == nil || r.OffSince == nil || time.Since(*r.OffSince) != away ||
			!strings.Contains(r.Error, "another process") {
			t.Errorf("while it is off: %+v", r)
		}

		d.taken.Store(false)
		time.Sleep(maxBackoff)
		d.Expect(t, `level=INFO msg="drop logging resumed" off=1h0m`)
		d.batches <- blocked
		d.Expect(t, "not TCP 6379)")
		if r := d.State(); r.OffSince != nil {
			t.Errorf("when it works again: %+v", r)
		}
	})
}

// TestDropLogTaken: a log that cannot be opened at the start is opened later.
func TestDropLogTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		var free atomic.Bool
		d.Log = New(d.config)
		d.Open(func() (Reader, error) {
			if !free.Load() {
				return nil, errors.New("taken")
			}
			return d.fakeReader, nil
		})
		d.Expect(t, "drop logging stopped")
		free.Store(true)
		go d.Run(t.Context())
		time.Sleep(minBackoff)
		d.Expect(t, "drop logging resumed")
	})
}
