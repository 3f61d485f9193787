// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"encoding/json"
	"net/http"
)

// maxHistory is how many lines are kept.
const maxHistory = 1000

// Line is a line of the endpoint /drops: a record, or the number of records that are gone.
type Line struct {
	*Record
	Missed uint64 `json:"missed,omitempty"`
}

// history holds the newest lines.
type history struct {
	lines   []Record      // a ring: line n is at n modulo its length
	next    uint64        // the number of the next line
	changed chan struct{} // closed by the next line
}

// remember adds a line to the history.
func (l *Log) remember(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.history
	if len(h.lines) < maxHistory {
		h.lines = append(h.lines, r)
	} else {
		h.lines[h.next%maxHistory] = r
	}
	h.next++
	close(h.changed)
	h.changed = make(chan struct{})
}

// from returns the lines from number from on, the number of the next one, how many were forgotten in between, and a
// channel that is closed when there are more.
func (l *Log) from(from uint64) (lines []Record, next, missed uint64, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.history
	if first := h.next - uint64(len(h.lines)); from < first {
		missed, from = first-from, first
	}
	for n := from; n < h.next; n++ {
		lines = append(lines, h.lines[n%maxHistory])
	}
	return lines, h.next, missed, h.changed
}

// ServeLines serves the newest lines, each a [Line] as JSON; ?namespace= keeps those of a namespace, ?follow=true
// continues until the client goes, and ?audit=true serves what audited policies would deny. Slow readers miss lines;
// writers never block.
func (l *Log) ServeLines(w http.ResponseWriter, r *http.Request) {
	l = l.of(r)
	query := r.URL.Query()
	namespace, follow := query.Get("namespace"), query.Get("follow") == "true"
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	begun := false
	for next := uint64(0); ; begun = true {
		lines, end, missed, more := l.from(next)
		answer := make([]Line, 0, len(lines)+1)
		if missed > 0 && begun {
			answer = append(answer, Line{Missed: missed})
		}
		for i := range lines {
			if inNamespace(namespace, lines[i].Src, lines[i].Dst) {
				answer = append(answer, Line{Record: &lines[i]})
			}
		}
		next = end
		for _, line := range answer {
			if err := out.Encode(line); err != nil { // the client has gone
				return
			}
		}
		if !follow {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
	}
}

// inNamespace says whether one of the ends is a pod of a namespace; "" is any.
func inNamespace(namespace string, ends ...Peer) bool {
	if namespace == "" {
		return true
	}
	for _, end := range ends {
		if end.Namespace == namespace {
			return true
		}
	}
	return false
}
