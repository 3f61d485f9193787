// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
)

// doubts are reasons to think that the kernel's table is not as the loop left it. They are counted: a replacement of
// the table, or a look at it, settles those raised before it began, never later ones.
type doubts struct {
	raised, settled uint64
	why             string // the newest, as /readyz says it
}

// settle settles the first n doubts.
func (d *doubts) settle(n uint64) { d.settled = max(d.settled, n) }

// open says whether there is a doubt.
func (d *doubts) open() bool { return d.settled < d.raised }

// Drifted tells the loop that another program changed the table. The loop replaces it at once.
func (l *Loop) Drifted(program string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubted("another program (" + program + ") changed the table, which is not yet restored") {
		l.forget(ReasonDrift)
		l.config.Log.Warn("another program changed the table; restoring it now; until then policies may "+
			"not be enforced", "program", program)
	}
}

// Lost tells the loop that notifications of changes were lost, so that another program may have changed the table. The
// loop looks at it between two transactions.
func (l *Loop) Lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doubted("notifications of table changes were lost, and the table is not yet checked") {
		l.config.Log.Debug("notifications of table changes were lost; checking the table")
	}
}

// doubted raises a doubt. Before the first transaction there is none: the table is still a previous process's.
func (l *Loop) doubted(why string) bool {
	begun := l.inFlight || l.status.Transactions > 0
	if begun {
		l.doubts.raised++
		l.doubts.why = why
		l.poke()
	}
	return begun
}

// look checks the table if there is a doubt that no replacement is going to settle, and has it replaced if it is not as
// the loop left it.
func (l *Loop) look(ctx context.Context) {
	l.mu.Lock()
	doubts, doubted := l.doubts.raised, l.doubts.open() && l.heldTable().Known()
	l.mu.Unlock()
	if !doubted {
		return
	}
	due := l.looks.due(l.poke)
	if !due {
		return
	}
	began := time.Now()
	difference, err := l.difference(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.config.Log.Debug("cannot check the table; trying again", "err", err)
		l.looks.done(began, maxTorn)
		l.looks.due(l.poke)
	case difference == "":
		l.doubts.settle(doubts)
		l.looks.done(began, 0)
		l.config.Log.Debug("the table is unchanged")
	default:
		l.config.Log.Warn("another program changed the table; restoring it now; until then policies may "+
			"not be enforced", "program", "unknown", "difference", difference)
		l.forget(ReasonDrift)
		l.looks.done(began, maxWrong)
	}
}

// difference says how the kernel's table differs from what the loop left, or returns "". It compares the base chains,
// without which nothing is denied, and then how much the table holds.
func (l *Loop) difference(ctx context.Context) (string, error) {
	for _, c := range l.looks.base {
		hooked, err := l.config.Kernel.Hooked(ctx, frame.TableName, c.Name)
		if err != nil {
			return "", err
		}
		if !hooked {
			return "chain " + c.Name + " is gone", nil
		}
	}
	read, err := l.config.Kernel.Shape(ctx, frame.TableName)
	if errors.Is(err, fs.ErrNotExist) {
		return "the table is gone", nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	want, known := l.heldTable().Shape()
	if !known {
		return "", errForgotten
	}
	difference := want.Difference(read)
	if difference == "" { // the parts were read at different moments, but each was right
		return "", nil
	}
	return difference, err
}

// heldTable returns the table for what the kernel holds; what it should hold may not be complete yet.
func (l *Loop) heldTable() *nft.Table {
	table, _ := l.state.Portion(0)
	return table
}

// errForgotten says that there is nothing left to check.
var errForgotten = errors.New("it will be replaced anyway")

// looks says when the table may be looked at. Each look that does not settle the doubt makes the next one wait longer,
// and even if all do, they take no more than a tenth of the loop's time.
type looks struct {
	base  []*nft.Chain // the table's, through which packets enter it
	next  time.Time
	wait  time.Duration
	timer *time.Timer // wakes the loop at next; nil if not needed
}

// How long a look waits after one that did not settle the doubt.
const (
	minLook  = 10 * time.Millisecond
	maxTorn  = time.Second      // after one that failed
	maxWrong = 30 * time.Second // after one that had the table replaced: a miscount must not keep the node busy
)

// due says whether a look is allowed now; if not, wake is called when it is.
func (k *looks) due(wake func()) bool {
	wait := time.Until(k.next)
	if wait > 0 && k.timer == nil {
		k.timer = time.AfterFunc(wait, wake)
	}
	return wait <= 0
}

// done notes a look, and the longest wait before the next; 0 after one that settled the doubt.
func (k *looks) done(began time.Time, limit time.Duration) {
	k.timer = nil
	k.wait = min(max(2*k.wait, minLook), limit)
	k.next = time.Now().Add(max(k.wait, 10*time.Since(began)))
}
