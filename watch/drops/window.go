// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/netpold/netpold/translate/frame"
)

// Bounds on the lines, whatever is sent to a pod.
const (
	windowLength = 10 * time.Second
	maxKeys      = 1000 // per window
	maxLines     = 100  // per second
)

// window is what was read since the last lines about repeats.
type window struct {
	entries    map[key]*entry
	begin, end time.Time // zero outside of one
	second     time.Time // the current second
	lines      int       // written in it
	suppressed int       // lines over the bounds
	foreign    int       // packets that no chain of ours logged
	lost       uint64    // packets
}

// entry is a key of the window: the first packet that is in no line yet, and how many there are.
type entry struct {
	Record
	told bool // there was a line before
}

// add takes packets, and the number lost since the last ones.
func (l *Log) add(packets []Packet, lost uint64) {
	w := &l.window
	if now := time.Now(); !w.end.IsZero() && !now.Before(w.end) {
		l.endWindow()
	}
	if w.end.IsZero() && (len(packets) > 0 || lost > 0) {
		w.open()
	}
	l.records.Add(float64(len(packets)))
	l.recordsLost.Add(float64(lost))
	w.lost += lost
	for _, p := range packets {
		l.one(p)
	}
}

// sort adds packets and the number lost, each to the log where it belongs.
func (l *Log) sort(packets []Packet, lost uint64) {
	var audited []Packet
	denied := slices.DeleteFunc(packets, func(p Packet) bool {
		audit := frame.OnlyTells(p.Prefix)
		if audit {
			audited = append(audited, p)
		}
		return audit
	})
	l.add(denied, lost)
	l.audit.add(audited, 0)
}

// one counts a packet, and writes a line if it is the first of its kind.
func (l *Log) one(p Packet) {
	w, k := &l.window, p.key()
	e := w.entries[k]
	if e != nil && e.Count > 0 {
		e.Count++
		l.countPair(&e.Record)
		return
	}
	r, ok := l.resolve(p)
	if !ok {
		w.foreign++
		return
	}
	l.countPair(&r)
	if !w.room(k) {
		l.suppress()
		return
	}
	if e == nil {
		e = new(entry)
		w.entries[k] = e
	}
	e.Record = r
	if !e.told {
		l.tell(e, "") // if not now, then at the end of the window
	}
}

// tell writes a line if the bounds allow it now, and says whether they did.
func (l *Log) tell(e *entry, suffix string) bool {
	now, w := time.Now(), &l.window
	if now.Sub(w.second) >= time.Second {
		w.second, w.lines = now, 0
	}
	if w.lines == maxLines {
		return false
	}
	w.lines++
	line := e.Record
	line.Time = now
	l.config.Told(line)
	line.Text += suffix
	l.config.Log.LogAttrs(context.Background(), slog.LevelInfo, line.Text, line.attrs()...)
	l.remember(line)
	e.Count, e.told = 0, true
	return true
}

// room says whether a packet with that key may have a line.
func (w *window) room(k key) bool { return w.entries[k] != nil || len(w.entries) < maxKeys }

func (l *Log) suppress() {
	l.window.suppressed++
	l.linesSuppressed.Inc()
}

func (w *window) open() {
	w.begin = time.Now()
	w.end = w.begin.Add(windowLength)
}

// endWindow reports what has arrived since the first lines. What continues gets one line per window from now on.
func (l *Log) endWindow() {
	l.tellRepeats()
	l.window.end = time.Time{}
	if len(l.window.entries) > 0 {
		l.window.open()
	}
}

// tellRepeats writes the lines at the end of a window, those with most packets first, and forgets what did not repeat.
func (l *Log) tellRepeats() {
	w := &l.window
	var repeated []*entry
	for key, e := range w.entries {
		if e.Count == 0 {
			delete(w.entries, key)
			continue
		}
		repeated = append(repeated, e)
	}
	slices.SortFunc(repeated, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Src.Address.Compare(b.Src.Address),
			a.Dst.Address.Compare(b.Dst.Address), cmp.Compare(a.Dst.Port, b.Dst.Port))
	})
	elapsed := time.Since(w.begin).Round(time.Second / 10)
	for _, e := range repeated {
		suffix := fmt.Sprintf("; %d in %s", e.Count, elapsed)
		if e.told {
			suffix = fmt.Sprintf("; %d more in %s", e.Count, elapsed)
		}
		told := l.tell(e, suffix)
		if !told {
			l.suppress()
			e.Count = 0
		}
	}
	if w.suppressed > 0 {
		l.config.Log.Warn("too many different drops; lines left out", "lines", w.suppressed, "in", elapsed)
	}
	if w.lost > 0 {
		l.config.Log.Warn("drop records lost: the kernel logs faster than netpold reads; enforcement unaffected",
			"records", w.lost, "in", elapsed)
	}
	if w.foreign > 0 {
		l.config.Log.Debug("ignoring log records that are not from netpold's rules, or not IP",
			"records", w.foreign, "in", elapsed)
	}
	w.suppressed, w.lost, w.foreign = 0, 0, 0
}

// closeWindow reports what the window has.
func (l *Log) closeWindow() {
	if !l.window.end.IsZero() {
		l.tellRepeats()
		l.window.end = time.Time{}
	}
}
