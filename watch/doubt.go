// SPDX-License-Identifier: Apache-2.0

package watch

// doubts are the reasons to think that the kernel does not hold the table as the loop left it. They are counted: a replacement of the
// table settles those that were raised before it began, and never one that came meanwhile.
type doubts struct {
	raised, settled uint64
	why             string // the newest, as /readyz says it
}

func (d *doubts) raise(why string) {
	d.raised++
	d.why = why
}

// settle ends the first n doubts.
func (d *doubts) settle(n uint64) { d.settled = max(d.settled, n) }

// open says whether there is a doubt.
func (d *doubts) open() bool { return d.settled < d.raised }

// Drifted says that somebody else changed the table, and who. The loop replaces it at once. Before the first transaction has begun there
// is nothing to do: what was changed is a previous process's.
func (l *Loop) Drifted(program string) {
	l.mu.Lock()
	begun := l.inFlight || l.status.Transactions > 0
	if begun {
		l.doubts.raise("another program, " + program + ", changed the table, and it is not replaced yet")
		l.forget(ReasonDrift)
	}
	l.mu.Unlock()
	if begun {
		l.Log.Warn("another program changed the table; policies may not be enforced until it is replaced, which begins now",
			"program", program)
		l.poke()
	}
}
