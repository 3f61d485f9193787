// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"time"
)

// Change is a transaction that somebody else committed.
type Change struct {
	Program string // that committed it
	Table   bool   // it touched our table
	Lost    bool   // the kernel could not say what it touched
}

// lostInterval bounds how often a table is replaced only because the kernel lost count of changes: replacing a large table is itself
// what makes it lose count.
const lostInterval = 30 * time.Second

// FollowDrift replaces the table whenever somebody else changed it, until ctx ends. Next waits for the next change. Where the kernel
// lets nobody else change the table, owned, what it lost count of was not our table.
func (l *Loop) FollowDrift(ctx context.Context, next func(context.Context) (Change, error), owned bool) error { //nolint:revive // owned is a fact, not a mode
	var last time.Time
	for {
		change, err := next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch for changes of the table by others: %w", err)
		}
		switch {
		case change.Table:
			l.Drifted(change.Program)
		case change.Lost && !owned && time.Since(last) > lostInterval:
			last = time.Now()
			l.Drifted("unknown")
		}
	}
}
