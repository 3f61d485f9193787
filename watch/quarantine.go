// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"slices"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/aside"
)

// How long something is set aside before it is tried again: an hour where what was refused cannot be, and at first a
// minute where memory was short or the culprit had to be found by trying; then twice as long.
const (
	quarantineTime    = time.Hour
	minQuarantineTime = time.Minute
)

// errAgain says that a transaction was refused, and that another one is to be tried at once.
var errAgain = errors.New("refused; what caused it is quarantined")

// quarantine is what the loop knows of isolations of which the kernel refuses something. The state has what is set
// aside.
type quarantine struct {
	terms map[string]*term
	// isolations that did not fit the rest of the table in the last attempt, which may have been somebody else's doing
	doubted  []string
	suspects []string // isolations that the last transaction changed, which was refused, nobody knows why
	unnamed  int      // replacements in a row of which nothing named was to blame
	search   *search  // nil if there is none
	timer    *time.Timer
}

// term is for how long an isolation is set aside.
type term struct {
	length time.Duration
	end    time.Time // zero while it is tried again
}

func newQuarantine() quarantine {
	timer := time.NewTimer(quarantineTime)
	timer.Stop()
	return quarantine{terms: make(map[string]*term), timer: timer}
}

// refused makes of the error of a transaction what it can: it sets aside what is to blame, and says whether to try
// again at once. What tells nothing of the isolations is as it was: the loop waits and tries again. The caller has the
// loop's lock, and the table is forgotten.
func (l *Loop) refused(tx *nft.Transaction, err error) (again bool) {
	q := &l.quarantine
	refused, ok := errors.AsType[*nft.Refused](err)
	if !ok {
		return false
	}
	defer l.tellTroubles()
	owners := l.state.Ownership()
	named, doubted := culprits(owners, refused)
	if len(named) == 0 && len(doubted) > 0 && tx.Replaces() && slices.ContainsFunc(doubted, q.isDoubted) {
		named = doubted
	}
	q.doubted = nil
	for _, d := range doubted {
		q.doubted = append(q.doubted, d.Key)
	}
	switch {
	case len(named) > 0:
		for _, c := range named {
			l.setAside(c.Quarantine, c.length)
		}
		return true
	case len(doubted) > 0:
		return false
	case q.search != nil:
		return l.searchFailed(owners, err)
	case !tx.Replaces():
		q.suspects = owners.Changed(tx)
		return false
	}
	q.unnamed++
	if q.unnamed == 1 && q.suspects == nil && mismatched(refused) { // perhaps somebody else deletes it at this moment
		return false
	}
	return l.beginSearch(owners, err)
}

// culprit is an isolation, or an address of a pod, to be set aside.
type culprit struct {
	aside.Quarantine
	length time.Duration
}

// culprits returns what an error names that cannot be, and what only did not fit the rest. If the rest did not fit
// either, none of these is to blame.
func culprits(owners *aside.Ownership, refused *nft.Refused) (named, doubted []culprit) {
	frame := false
	missing := make(map[string]bool) // chains and sets
	for _, r := range refused.Refusals {
		of := owners.Of(r.Op)
		switch r.Op.Verb {
		case nft.AddChain:
			missing[r.Op.Chain.Name] = true
		case nft.AddSet:
			missing[r.Op.Set.Name] = true
		}
		if len(r.Op.Elements) > 0 && r.Cause == nft.Mismatch &&
			(missing[r.Op.Elements[0].Verdict.Chain] || missing[r.Op.Set.Name]) {
			continue // the element is not to blame
		}
		for _, q := range of {
			q.Reason = "refused: " + r.String()
			switch r.Cause {
			case nft.Unfit:
				named = append(named, culprit{q, quarantineTime})
			case nft.Shortage:
				named = append(named, culprit{q, minQuarantineTime})
			case nft.Mismatch:
				doubted = append(doubted, culprit{q, minQuarantineTime})
			}
		}
		frame = frame || len(of) == 0 && r.Cause == nft.Mismatch
	}
	if frame {
		doubted = nil
	}
	return named, doubted
}

func (q *quarantine) isDoubted(c culprit) bool { return slices.Contains(q.doubted, c.Key) }

// mismatched says whether all that is refused does not fit the rest of the table.
func mismatched(refused *nft.Refused) bool {
	return refused.Cause == nft.Mismatch ||
		len(refused.Refusals) > 0 && !slices.ContainsFunc(refused.Refusals, func(r nft.Refusal) bool {
			return r.Cause != nft.Mismatch
		})
}

// setAside sets something aside, and again for longer than the last time: for the same reason then, of which nobody
// needs to be told anew.
func (l *Loop) setAside(c aside.Quarantine, length time.Duration) {
	q := &l.quarantine
	if old := q.terms[c.Key]; old != nil && old.end.IsZero() {
		length = max(length, min(2*old.length, quarantineTime))
		c.Reason = ""
	}
	l.state.Quarantine(c)
	q.terms[c.Key] = &term{length, time.Now().Add(length)}
	if q.search != nil {
		q.search.remove(c.Key)
	}
}

// accepted notes that the kernel has taken what was tried. The caller has the loop's lock.
func (l *Loop) accepted() {
	if l.more { // what is tried may be in another portion
		return
	}
	q := &l.quarantine
	q.doubted, q.suspects, q.unnamed = nil, nil, 0
	l.state.Absolve()
	if q.search != nil {
		more := l.searchGoesOn()
		if !more {
			l.config.Log.Info("search ended; all isolations that the kernel accepts are in force again",
				"attempts", q.search.attempts)
			q.search = nil
		}
	}
	if len(q.terms) == 0 {
		return
	}
	l.tellTroubles()
	for key := range q.terms {
		if !l.state.Quarantined(key) {
			delete(q.terms, key)
		}
	}
	l.setTimer()
}

// setTimer makes the timer go off when the next term ends.
func (l *Loop) setTimer() {
	q := &l.quarantine
	var next time.Time
	for _, t := range q.terms {
		if !t.end.IsZero() && (next.IsZero() || t.end.Before(next)) {
			next = t.end
		}
	}
	if !next.IsZero() {
		q.timer.Reset(time.Until(next))
	}
}

// retryQuarantined has what was set aside for long enough tried again with the next transaction.
func (l *Loop) retryQuarantined() {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.quarantine
	for key, t := range q.terms {
		if t.end.IsZero() || time.Now().Before(t.end) {
			continue
		}
		t.end = time.Time{}
		l.state.Release(key)
		if l.oldest.IsZero() {
			l.oldest = time.Now()
		}
		l.config.Log.Debug("retrying what was quarantined", "after", t.length)
	}
	l.setTimer()
}
