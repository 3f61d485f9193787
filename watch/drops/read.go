// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Backoff between attempts to open the log.
const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// batchSize is how many packets are read at once.
const batchSize = 100

// State is whether the kernel's log of denied packets is read.
type State struct {
	OffSince *time.Time `json:"offSince,omitempty"` // nil while it is read
	Error    string     `json:"error,omitempty"`    // why it is not
}

// State returns whether the log is read, or nil if it was never opened.
func (l *Log) State() *State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Open opens the log, if that can be done now; Run goes on from there.
func (l *Log) Open(open func() (Reader, error)) {
	l.open, l.backoff = open, minBackoff
	l.tryOpen()
}

// Run logs who was blocked, by which policies and why, until ctx ends; a log that was never opened is silent. Packets
// of equal source, destination, protocol, port, direction and policies make one line when the first arrives, and one
// more at the end of each window that has more of them.
func (l *Log) Run(ctx context.Context) {
	if l.open == nil {
		return
	}
	for {
		if l.reader != nil {
			err := l.read(ctx)
			_ = l.reader.Close() // an error does not matter: it is no longer read
			if ctx.Err() != nil {
				return
			}
			l.reader = nil
			l.off(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.backoff):
		}
		l.backoff = min(2*l.backoff, maxBackoff)
		l.tryOpen()
	}
}

// tryOpen tries to open the log.
func (l *Log) tryOpen() {
	reader, err := l.open()
	if err != nil {
		l.off(err)
		return
	}
	l.reader = reader
	l.on()
}

// read makes lines of packets until reading fails or ctx ends.
func (l *Log) read(ctx context.Context) error {
	defer l.audit.closeWindow()
	defer l.closeWindow()
	batch := make([]Packet, batchSize)
	var lost uint64
	for {
		n, err := l.readUntil(ctx, batch)
		if err != nil {
			return fmt.Errorf("read the log of denied packets: %w", err)
		}
		total := l.reader.Lost()
		l.sort(batch[:n], total-lost)
		lost = total
		l.backoff = minBackoff
	}
}

// readUntil reads packets, or none if a window ends first.
func (l *Log) readUntil(ctx context.Context, batch []Packet) (int, error) {
	end := l.window.end
	if audit := l.audit.window.end; end.IsZero() || !audit.IsZero() && audit.Before(end) {
		end = audit
	}
	if end.IsZero() {
		return l.reader.Read(ctx, batch)
	}
	window, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	n, err := l.reader.Read(window, batch)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return 0, nil
	}
	return n, err
}

// off notes that the log cannot be read, and logs that once.
func (l *Log) off(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := time.Now()
	if l.state != nil && l.state.OffSince != nil {
		since = *l.state.OffSince
	} else {
		l.config.Log.Warn("drop logging stopped; enforcement unaffected", "err", err)
	}
	l.state = &State{OffSince: &since, Error: err.Error()}
}

// on notes that the log is read, and logs that if it was off.
func (l *Log) on() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != nil && l.state.OffSince != nil {
		l.config.Log.Info("drop logging resumed", "off", time.Since(*l.state.OffSince).Round(time.Millisecond))
	}
	l.state = new(State)
}
