// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"slices"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/aside"
)

// How long something stays quarantined before a retry: an hour if the refusal is final; a minute at first, doubling
// each time, if memory was short or the culprit was found by trial.
const (
	quarantineTime    = time.Hour
	minQuarantineTime = time.Minute
)

// errAgain says that a transaction was refused, and the next should be tried at once.
var errAgain = errors.New("refused; what caused it is quarantined")

// quarantine is what the loop knows about isolations that the kernel refused. The state has those that are set aside.
type quarantine struct {
	terms map[string]*term
	// isolations that did not fit the rest of the table in the last attempt, perhaps because another program changed it
	doubted  []string
	suspects []string // isolations changed by the last transaction, if that was refused for an unknown reason
	unnamed  int      // replacements in a row that failed without a named culprit
	search   *search  // nil if none is under way
	timer    *time.Timer
}

// term is how long an isolation is set aside.
type term struct {
	length time.Duration
	end    time.Time // zero while being retried
}

func newQuarantine() quarantine {
	timer := time.NewTimer(quarantineTime)
	timer.Stop()
	return quarantine{terms: make(map[string]*term), timer: timer}
}

// refused handles the error of a transaction: it sets aside what is to blame, and says whether to try again at once. If
// the error does not point to isolations, the loop waits and retries as usual. The caller holds the loop's lock and has
// forgotten the table.
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
	if q.unnamed == 1 && q.suspects == nil && mismatched(refused) { // another program may be deleting it
		return false
	}
	return l.beginSearch(owners, err)
}

// culprit is an isolation or a pod's address, to be set aside.
type culprit struct {
	aside.Quarantine
	length time.Duration
}

// culprits returns what an error names as refused in itself, and what only did not fit the rest. If the rest did not
// fit either, none of the latter is to blame.
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

// mismatched says whether everything refused was refused because it did not fit the rest of the table.
func mismatched(refused *nft.Refused) bool {
	return refused.Cause == nft.Mismatch ||
		len(refused.Refusals) > 0 && !slices.ContainsFunc(refused.Refusals, func(r nft.Refusal) bool {
			return r.Cause != nft.Mismatch
		})
}

// setAside sets something aside. If it was before, it is for longer, and with the old reason, so that nobody is
// notified again.
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

// accepted notes that the kernel took what was tried. The caller holds the loop's lock.
func (l *Loop) accepted() {
	if l.more { // it may be in another portion
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

// setTimer sets the timer to the end of the next term.
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

// retryQuarantined includes in the next transaction whatever has been set aside for long enough.
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
