// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/netpold/netpold/translate"
)

// Drop is one packet that the table denied and logged.
type Drop struct {
	Prefix             string     // the name of the chain that denied it
	Src, Dst           netip.Addr // as on the wire: an IPv4-mapped address is one of IPv6
	Proto              uint8      // IANA protocol number
	SrcPort, DstPort   uint16     // of TCP, UDP and SCTP
	ICMPType, ICMPCode uint8      // of ICMP and ICMPv6
	Opens              bool       // it would have opened a TCP connection
	Partial            bool       // the ports or the type are not known: of a later fragment, or of a cut packet
}

// Drops are the packets that the table denies, as far as it logs them. It is for one goroutine.
type Drops interface {
	// Read waits until there are some, and returns how many it has put at the start of batch.
	Read(ctx context.Context, batch []Drop) (int, error)

	// Lost returns how many were logged and lost before Read, since the beginning.
	Lost() uint64

	// Close lets go of the log.
	Close() error
}

// Bounds of the lines about drops, whatever is sent to a pod.
const (
	dropWindow   = 10 * time.Second
	maxDropKeys  = 1000 // per window
	maxDropLines = 100  // per second
	dropBatch    = 100  // records read at once
)

// dropKey is what the drops of one line have in common. The chain is the direction and the policies: when others isolate the pod, what
// there is to say is another thing.
type dropKey struct {
	src, dst netip.Addr
	proto    uint8
	dstPort  uint16
	chain    string
}

// dropEntry is a key of the window.
type dropEntry struct {
	drop  Drop      // the first of those that count counts
	who   dropParty // at its time
	count int       // that no line tells of yet
	told  bool      // a line has told of others
}

// dropLog makes lines of drops. Its lock is never taken while the loop's is held.
type dropLog struct {
	loop *Loop

	mu      sync.Mutex
	entries map[dropKey]*dropEntry
	timer   *time.Timer // of the end of the window; nil outside of one
	opened  time.Time   // when the window began
	second  time.Time   // the second of lines
	lines   int         // written in it

	// In this window.
	suppressed int    // lines that the bounds forbade
	foreign    int    // records that no chain of ours has logged
	lost       uint64 // records
}

// add takes records, and the number of those that were lost since the last ones.
func (g *dropLog) add(drops []Drop, lost uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer == nil {
		g.opened = time.Now()
		g.timer = time.AfterFunc(dropWindow, g.endWindow)
	}
	g.loop.Metrics.dropRecords.Add(float64(len(drops)))
	g.loop.Metrics.dropRecordsLost.Add(float64(lost))
	g.lost += lost
	for _, d := range drops {
		g.one(d)
	}
}

// one counts a drop, and writes a line if it is the first of its kind.
func (g *dropLog) one(d Drop) {
	direction, ok := translate.DirectionOf(d.Prefix)
	if !ok || !d.Src.IsValid() || !d.Dst.IsValid() {
		g.foreign++
		return
	}
	key := dropKey{d.Src, d.Dst, d.Proto, d.DstPort, d.Prefix}
	e := g.entries[key]
	g.loop.countPair(d, direction)
	switch {
	case e == nil && len(g.entries) >= maxDropKeys:
		g.suppress()
		return
	case e == nil:
		e = &dropEntry{}
		g.entries[key] = e
	}
	if e.count == 0 {
		e.drop, e.who = d, g.loop.dropParty(d)
	}
	e.count++
	if !e.told && e.count == 1 {
		g.tell(e, "") // or at the end of the window
	}
}

// tell writes a line if that is allowed now.
func (g *dropLog) tell(e *dropEntry, suffix string) bool {
	now := time.Now()
	if now.Sub(g.second) >= time.Second {
		g.second, g.lines = now, 0
	}
	if g.lines == maxDropLines {
		return false
	}
	g.lines++
	g.loop.logDrop(e, suffix)
	e.count, e.told = 0, true
	return true
}

func (g *dropLog) suppress() {
	g.suppressed++
	g.loop.Metrics.dropLinesSuppressed.Inc()
}

// endWindow tells of what has come since the first lines. What goes on is one line per window from now on.
func (g *dropLog) endWindow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer == nil { // closed meanwhile
		return
	}
	g.tellRepeats()
	g.timer = nil
	if len(g.entries) > 0 {
		g.opened = time.Now()
		g.timer = time.AfterFunc(dropWindow, g.endWindow)
	}
}

// tellRepeats writes the lines of the window's end, those that stand for most first, and forgets what did not repeat.
func (g *dropLog) tellRepeats() {
	var repeated []*dropEntry
	for key, e := range g.entries {
		if e.count == 0 {
			delete(g.entries, key)
			continue
		}
		repeated = append(repeated, e)
	}
	slices.SortFunc(repeated, func(a, b *dropEntry) int {
		return cmp.Or(cmp.Compare(b.count, a.count), a.drop.Src.Compare(b.drop.Src), a.drop.Dst.Compare(b.drop.Dst),
			cmp.Compare(a.drop.DstPort, b.drop.DstPort))
	})
	elapsed := time.Since(g.opened).Round(time.Second / 10)
	for _, e := range repeated {
		suffix := fmt.Sprintf("; %d in %s", e.count, elapsed)
		if e.told {
			suffix = fmt.Sprintf("; %d more in %s", e.count, elapsed)
		}
		if !g.tell(e, suffix) {
			g.suppress()
			e.count = 0
		}
	}
	if g.suppressed > 0 {
		g.loop.Log.Warn("too many different drops, lines were suppressed", "lines", g.suppressed, "in", elapsed)
	}
	if g.lost > 0 {
		g.loop.Log.Warn("the kernel logged drops faster than they were read, records were lost", "records", g.lost, "in", elapsed)
	}
	if g.foreign > 0 {
		g.loop.Log.Debug("somebody else logs to the group of the drops, or no IP packets", "records", g.foreign, "in", elapsed)
	}
	g.suppressed, g.lost, g.foreign = 0, 0, 0
}

// close tells what the window has.
func (g *dropLog) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
		g.tellRepeats()
	}
}
