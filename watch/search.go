// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"math/bits"
	"slices"

	"github.com/netpold/netpold/translate/aside"
)

// search finds the isolations that the kernel refuses when it does not name them. It sets the suspects aside, or all
// isolations if that does not help, which puts the others in force; then it tries them again, half by half, the
// lightest first. What the kernel takes stays. Pod addresses come last. Suspects are the isolations that the
// transaction changed; if that is all of them, the heaviest, since most limits are about size.
type search struct {
	err      error   // the error that started the search
	groups   []group // set aside; the last is tried next
	trial    group   // what the current attempt tries; empty while all are set aside
	all      bool    // every isolation is set aside
	ends     bool    // and every pod address
	attempts int
	limit    int // of attempts
}

// group holds isolations that are tried together.
type group struct {
	keys   []string
	guilty bool // the kernel refuses something in it
	first  bool // the next group is the other half of a guilty one
}

// beginSearch sets the suspects aside, and says whether to try again at once.
func (l *Loop) beginSearch(owners *aside.Ownership, err error) bool {
	q := &l.quarantine
	s := &search{err: err}
	suspects := q.suspects
	if all := owners.All(); len(suspects) == 0 && len(all) > 0 {
		// the heaviest alone is set aside
		suspects, s.all = all[len(all)-1:], len(all) == 1
	}
	if len(suspects) == 0 {
		return false
	}
	q.search = s
	l.config.Log.Warn("the kernel refused the table without naming the object; isolations are quarantined to find "+
		"it, and their pods are allowed nothing meanwhile", "err", err, "isolations", len(suspects))
	l.suspect(suspects)
	return true
}

// suspect sets isolations or addresses aside, to be tried again.
func (l *Loop) suspect(keys []string) {
	s := l.quarantine.search
	const perCulprit = 4 // attempts per halving; one of two fails
	for i := range s.groups {
		s.groups[i].guilty = false // setting it aside does not help
	}
	s.groups = append(s.groups, group{keys: keys, guilty: true})
	s.limit += perCulprit * (2 + bits.Len(uint(len(keys))))
	for _, key := range keys {
		l.state.Quarantine(aside.Quarantine{Key: key})
	}
}

// searchFailed handles a failed attempt, and says whether to try again at once.
func (l *Loop) searchFailed(owners *aside.Ownership, err error) bool {
	q := &l.quarantine
	s := q.search
	s.attempts++
	switch {
	case len(s.trial.keys) > 0:
		l.trialFailed()
		return true
	case !s.all:
		s.all = true
		if keys := owners.All(); len(keys) > 0 {
			l.suspect(keys)
			return true
		}
	}
	if !s.ends {
		s.ends = true
		if keys := owners.Addresses(); len(keys) > 0 {
			l.suspect(keys)
			return true
		}
	}
	l.config.Log.Error("the kernel refuses the table even without policies; the last state stays in force, "+
		"retrying with all policies", "err", err)
	for _, g := range s.groups {
		l.state.Release(g.keys...)
	}
	l.state.Absolve()
	q.search, q.suspects = nil, nil
	return false
}

// trialFailed sets the trial aside again: a single isolation for good, several to be halved.
func (l *Loop) trialFailed() {
	s := l.quarantine.search
	trial := s.trial
	s.trial = group{}
	switch n := len(trial.keys); {
	case s.attempts > s.limit:
		for _, g := range append(s.groups, trial) {
			l.condemn(g.keys)
		}
		s.groups = nil
	case n == 1:
		l.condemn(trial.keys)
	default:
		for _, key := range trial.keys {
			l.state.Quarantine(aside.Quarantine{Key: key})
		}
		s.split(trial.keys)
	}
}

// condemn sets isolations aside for good.
func (l *Loop) condemn(keys []string) {
	err := l.quarantine.search.err
	for inner := err; inner != nil; inner = errors.Unwrap(err) { // so that the text is the same on all nodes
		err = inner
	}
	reason := "found by trial, since the kernel did not name it: " + err.Error()
	for _, key := range keys {
		l.setAside(aside.Quarantine{Key: key, Reason: reason}, minQuarantineTime)
	}
}

// split replaces a guilty group by its halves.
func (s *search) split(keys []string) {
	middle := len(keys) / 2
	s.groups = append(s.groups, group{keys: keys[middle:]}, group{keys: keys[:middle], first: true})
}

// searchGoesOn tries the next group after a successful attempt, and says whether there is one.
func (l *Loop) searchGoesOn() bool {
	s := l.quarantine.search
	s.attempts++
	if s.trial.first {
		s.groups[len(s.groups)-1].guilty = true
	}
	s.trial = group{}
	for len(s.groups) > 0 && len(s.trial.keys) == 0 {
		top := len(s.groups) - 1
		next := s.groups[top]
		s.groups = s.groups[:top]
		if next.guilty && len(next.keys) > 1 {
			s.split(next.keys)
			continue
		}
		s.trial = next
	}
	l.state.Release(s.trial.keys...)
	l.poke()
	return len(s.trial.keys) > 0
}

// remove forgets an isolation that has been named.
func (s *search) remove(key string) {
	s.trial.remove(key)
	for i := range s.groups {
		s.groups[i].remove(key)
	}
}

func (g *group) remove(key string) { // other groups have parts of the same array
	g.keys = slices.DeleteFunc(slices.Clone(g.keys), func(k string) bool { return k == key })
}
