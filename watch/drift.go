// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
)

// Change is a transaction that somebody else committed.
type Change struct {
	Program string // that committed it
	Table   bool   // it touched our table
	Lost    bool   // the kernel could not say what it touched
}

// FollowDrift tells the loop of what others change, until ctx ends. Next waits for the next change.
func (l *Loop) FollowDrift(ctx context.Context, next func(context.Context) (Change, error)) error {
	for {
		change, err := next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch for table changes by others: %w", err)
		}
		switch {
		case change.Table:
			l.Drifted(change.Program)
		case change.Lost:
			l.Lost()
		}
	}
}
