// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"time"
)

// Backoff of opening the log of drops again.
const (
	minDropBackoff = time.Second
	maxDropBackoff = time.Minute
)

// DropFollower logs who was blocked. It opens the log of drops, and opens it again after it failed.
type DropFollower struct {
	loop    *Loop
	open    func() (Drops, error)
	drops   Drops // nil while the log is off
	lines   *dropLog
	backoff time.Duration
}

// OpenDrops opens the log of drops, if that can be done now; Run goes on from there.
func (l *Loop) OpenDrops(open func() (Drops, error)) *DropFollower {
	f := &DropFollower{
		loop: l, open: open, lines: &dropLog{loop: l, entries: make(map[dropKey]*dropEntry)}, backoff: minDropBackoff,
	}
	f.tryOpen()
	return f
}

// Run logs who was blocked, by which policies and why, until ctx ends. Drops of equal source, destination, protocol, port,
// direction and policies are one line when the first comes, and one more at the end of each window that has more of them.
func (f *DropFollower) Run(ctx context.Context) {
	for {
		if f.drops != nil {
			err := f.read(ctx)
			_ = f.drops.Close() // whatever it says, it is not read any more
			if ctx.Err() != nil {
				return
			}
			f.drops = nil
			f.loop.dropLogOff(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.backoff):
		}
		f.backoff = min(2*f.backoff, maxDropBackoff)
		f.tryOpen()
	}
}

// tryOpen opens the log if it can.
func (f *DropFollower) tryOpen() {
	drops, err := f.open()
	if err != nil {
		f.loop.dropLogOff(err)
		return
	}
	f.drops = drops
	f.loop.dropLogOn()
}

// read makes lines of drops until reading fails or ctx ends.
func (f *DropFollower) read(ctx context.Context) error {
	defer f.lines.close()
	batch := make([]Drop, dropBatch)
	var lost uint64
	for {
		n, err := f.drops.Read(ctx, batch)
		if err != nil {
			return fmt.Errorf("read the log of denied packets: %w", err)
		}
		total := f.drops.Lost()
		f.lines.add(batch[:n], total-lost)
		lost = total
		f.backoff = minDropBackoff
	}
}

// dropLogState is whether the log of drops is read.
type dropLogState struct {
	wanted   bool
	offSince time.Time // zero while it is read
	err      string    // why it is not
}

// report returns the state as reports have it.
func (s dropLogState) report() *DropLogReport {
	switch {
	case !s.wanted:
		return nil
	case s.offSince.IsZero():
		return &DropLogReport{}
	}
	return &DropLogReport{OffSince: &s.offSince, Error: s.err}
}

// dropLogOff notes that the log of drops cannot be read, and says so once.
func (l *Loop) dropLogOff(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropLogs.offSince.IsZero() {
		l.dropLogs.offSince = time.Now()
		l.Log.Warn("drop logging is off until it works again; enforcement is not affected", "err", err)
	}
	l.dropLogs.wanted, l.dropLogs.err = true, err.Error()
}

// dropLogOn notes that it is read, and says so if it was not.
func (l *Loop) dropLogOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := l.dropLogs.offSince; !since.IsZero() {
		l.Log.Info("drop logging works again", "off", time.Since(since).Round(time.Millisecond))
	}
	l.dropLogs = dropLogState{wanted: true}
}
