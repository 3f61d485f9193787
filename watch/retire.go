// SPDX-License-Identifier: Apache-2.0

package watch

import "context"

// retired returns the number of the last transaction if the table has retired objects, and 0 if not.
func (l *Loop) retired() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table == nil {
		return 0
	}
	return l.table.Retired()
}

// settle sends number when the packets that were in flight at a transaction have left the rules, unless ctx ends first.
// It does not block the loop.
func (l *Loop) settle(ctx context.Context, number uint64, settled chan<- uint64) {
	if err := l.config.Kernel.Settle(ctx); err == nil {
		settled <- number
	}
}

// reap lets the next transaction delete what was retired up to a transaction that no packet in flight precedes.
func (l *Loop) reap(number uint64) {
	l.mu.Lock()
	l.table.Reap(number)
	l.mu.Unlock()
	l.poke()
}
