// SPDX-License-Identifier: Apache-2.0

// Package logged keeps what the tested code logs, in a bubble of testing/synctest.
package logged

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// Lines are the lines of a log without their time. Several goroutines may write them.
type Lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Log returns a logger that writes to the lines.
func (l *Lines) Log() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// Write adds lines.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// Take waits until all goroutines of the bubble are blocked, and returns the lines since the last call.
func (l *Lines) Take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Collect(strings.Lines(l.buf.String()))
	l.buf.Reset()
	return all
}

// Expect compares the lines since the last call with parts of lines.
func (l *Lines) Expect(t *testing.T, want ...string) {
	t.Helper()
	got := l.Take()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("no line with\n%s", want[i])
		case i >= len(want):
			t.Errorf("line\n%s", got[i])
		case !strings.Contains(got[i], want[i]):
			t.Errorf("line\n%swant\n%s", got[i], want[i])
		}
	}
}
