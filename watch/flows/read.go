// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/observe"
)

// table is what was last read from a table's sets.
type table struct{ held map[element]tally }

// element is an element of a set of flows.
type element struct {
	kind   observe.Kind
	family nft.Family
	key    nft.Key
}

// tally is an element's count.
type tally struct {
	packets uint64
	last    time.Time // of its latest packet
}

// change is what an element has counted since the last read.
type change struct {
	element
	tally
}

// reading is the result of reading a table.
type reading struct {
	at       time.Time
	elements []change // with their full counts
	held     int
}

// readAll reads the sets of a table, that of all connections first: a denied one is counted there before.
func (l *Log) readAll(ctx context.Context, reads Reads, name string) (reading, error) {
	r := reading{at: time.Now().Round(0)} // wall clock only, as it is reported
	var errs []error
	for _, s := range observe.Sets(l.config.Max) {
		elements, err := reads.Elements(ctx, name, s.Name, s.Type)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		if s.Kind != observe.Lost {
			r.held = max(r.held, len(elements))
		}
		for _, e := range elements {
			last := r.at
			if ago := observe.Timeout*time.Second - time.Duration(e.Left)*time.Millisecond; ago > 0 {
				last = r.at.Add(-ago)
			}
			r.elements = append(r.elements, change{element{s.Kind, s.Type.Family, e.Key}, tally{e.Packets, last}})
		}
	}
	return r, errors.Join(errs...)
}

// Read brings the history up to date with the kernel.
func (l *Log) Read(ctx context.Context) error {
	select {
	case l.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.reading }()
	l.mu.Lock()
	t := l.tables[l.config.Table]
	l.mu.Unlock()
	if t == nil { // the table is being replaced
		return nil
	}
	r, err := l.readAll(ctx, l.config.Reads, l.config.Table)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.mu.Lock()
	var changes []change
	if l.tables[l.config.Table] == t { // otherwise its final counts are known already
		changes = t.changes(r)
		l.measure(changes)
		l.state.Held = r.held
		l.fill.Set(float64(r.held) / float64(l.config.Max))
	}
	l.note(err)
	l.mu.Unlock()
	l.take(changes)
	return err
}

// note keeps why the sets could not be read, and logs it once.
func (l *Log) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && l.state.Error == "" {
		l.config.Log.Warn("flows cannot be read; enforcement unaffected", "err", err)
	}
	l.state.Error = text
}

// changes returns what the elements have counted since the last read. A smaller count than before means another element
// with the same key.
func (t *table) changes(r reading) []change {
	var changes []change
	for _, c := range r.elements {
		before := t.held[c.element].packets
		t.held[c.element] = c.tally
		if c.packets < before {
			before = 0
		}
		if c.packets -= before; c.packets > 0 {
			changes = append(changes, c)
		}
	}
	for e, held := range t.held { // no longer in the kernel
		if e.kind != observe.Lost && r.at.Sub(held.last) > (observe.Timeout+60)*time.Second {
			delete(t.held, e)
		}
	}
	return changes
}

// Made notes that a table of this process counts from now on.
func (l *Log) Made(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tables[name] = &table{held: make(map[element]tally)}
	delete(l.retired, name)
}

// lastRead bounds the last read of a table, whose replacement waits for it.
const lastRead = time.Second

// Retired takes the final counts of a table that packets no longer reach, even a previous process's.
func (l *Log) Retired(ctx context.Context, reads Reads, name string) {
	l.mu.Lock()
	t, done := l.tables[name], l.retired[name]
	delete(l.tables, name)
	l.retired[name] = true
	l.mu.Unlock()
	if !l.On() || done {
		return
	}
	own := t != nil
	if !own {
		t = &table{held: make(map[element]tally)}
	}
	ctx, cancel := context.WithTimeout(ctx, lastRead)
	defer cancel()
	r, _ := l.readAll(ctx, reads, name) // if somebody else has deleted it, the last read stands
	changes := t.changes(r)
	if own { // otherwise it was before the start
		l.mu.Lock()
		l.measure(changes)
		l.mu.Unlock()
	}
	l.take(changes)
}

// measure adds changes to the metrics.
func (l *Log) measure(changes []change) {
	for _, c := range changes {
		switch c.kind {
		case observe.All:
			l.connections.Add(float64(c.packets))
		case observe.Lost:
			l.lost.Add(float64(c.packets))
			l.state.Lost += c.packets
		}
	}
	l.tellLost()
}

// take adds changes to the history, with names as of now.
func (l *Log) take(changes []change) {
	addresses := make(map[netip.Addr]struct{})
	rest := changes[:0]
	for _, c := range changes {
		if !c.isFlow() {
			continue
		}
		rest = append(rest, c)
		from, to := c.ends()
		addresses[from], addresses[to] = struct{}{}, struct{}{}
	}
	for _, a := range l.nameless() {
		addresses[a] = struct{}{}
	}
	ends := l.resolve(addresses)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history.rename(ends)
	l.history.add(rest, ends)
	l.history.forget(2 * int(l.config.Max))
	for a, f := range l.former {
		if time.Since(f.left) > young {
			delete(l.former, a)
		}
	}
	l.state.Known = len(l.history.entries)
	l.known.Set(float64(l.state.Known))
}

// tellEvery is the least time between log lines about lost connections.
const tellEvery = time.Minute

// tellLost logs how many connections were not counted.
func (l *Log) tellLost() {
	if l.state.Lost == l.told || time.Now().Before(l.tell) {
		return
	}
	l.config.Log.Warn("the kernel's set of flows is full: new connections are not counted; enforcement unaffected",
		"connections", l.state.Lost-l.told, "max", l.config.Max, "remedy", "a larger --observe-max")
	l.told, l.tell = l.state.Lost, time.Now().Add(tellEvery)
}

// isFlow is false for port 0: nothing listens there, but scanners try it.
func (e element) isFlow() bool {
	ported := e.key.Proto == nft.TCP || e.key.Proto == nft.UDP || e.key.Proto == nft.SCTP
	return e.kind != observe.Lost && (e.key.Port != 0 || !ported)
}

// ends returns the addresses of a flow, as on the wire.
func (e element) ends() (from, to netip.Addr) {
	from, to = netip.AddrFrom16(e.key.Addr), netip.AddrFrom16(e.key.To)
	if e.family == nft.IPv4 {
		from, to = from.Unmap(), to.Unmap()
	}
	return from, to
}
