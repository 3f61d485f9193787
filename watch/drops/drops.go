// SPDX-License-Identifier: Apache-2.0

// Package drops tells who was blocked: it makes lines, a history and a table of the most blocked of the packets that
// the table denies and the kernel logs. A packet is looked up once, when it is read, and becomes a [Record]; all that
// is said of it is made from that.
package drops

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// Packet is a packet that the table denied and logged.
type Packet struct {
	policy.Flow        // its addresses are as on the wire
	Prefix      string // the name of the chain that denied it, or audits
	SrcPort     uint16 // of TCP, UDP and SCTP
	ICMPCode    uint8
	Opens       bool // it would have opened a TCP connection
	Partial     bool // the ports or the type are not known: of a later fragment, or of a cut packet
}

// Reader reads the packets that the table denies, as far as it logs them. It is for one goroutine.
type Reader interface {
	// Read waits until there are some, and returns how many it has put at the start of batch. When ctx ends it returns
	// ctx's error, and can be called again.
	Read(ctx context.Context, batch []Packet) (int, error)

	// Lost returns how many were logged and lost before Read, since the beginning.
	Lost() uint64

	// Close lets go of the log.
	Close() error
}

// Config is what a Log needs.
type Config struct {
	Log *slog.Logger

	// View calls look while nothing changes the state, which look must not keep. It says whether the state has all
	// there is.
	View func(look func(*translate.State)) (synced bool)

	// Told is called with each line, before its text has the number of packets that it stands for. It must not wait.
	Told func(Record)
}

// Log is what is known of denied packets. Run reads them; the other methods are for everybody.
type Log struct {
	config                                Config
	records, recordsLost, linesSuppressed prometheus.Counter

	// audit is what is known of the packets that audited policies would deny: lines, history and pairs of its own, so
	// that neither pushes the other out. It reads nothing itself, and has none.
	audit *Log

	// Of Run's goroutine.
	open    func() (Reader, error)
	reader  Reader // nil while the log is off
	backoff time.Duration
	window  window

	mu      sync.Mutex // guards the fields below; no other lock is taken while it is held
	state   *State     // nil before Open
	history history
	pairs   pairs
}

// New returns a log that is not opened.
func New(config Config) *Log {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	l := empty(config)
	l.records = counter("netpold_drop_records_total",
		"Denied packets read from the kernel's log, which is rate-limited per isolation.")
	l.recordsLost = counter("netpold_drop_records_lost_total",
		"Denied packets that the kernel logged and netpold was too slow to read.")
	l.linesSuppressed = counter("netpold_drop_lines_suppressed_total",
		"Drop log lines left out because there were too many different ones.")
	l.audit = empty(config)
	l.audit.records, l.audit.recordsLost, l.audit.linesSuppressed = l.records, l.recordsLost, l.linesSuppressed
	return l
}

// empty returns a log without lines.
func empty(config Config) *Log {
	return &Log{
		config:  config,
		window:  window{entries: make(map[key]*entry)},
		history: history{changed: make(chan struct{})},
		pairs:   pairs{since: time.Now(), byKey: make(map[key]*Pair)},
	}
}

// of returns the log that a question is about: ?audit=true is that of audited policies.
func (l *Log) of(r *http.Request) *Log {
	if r.URL.Query().Get("audit") == "true" {
		return l.audit
	}
	return l
}

// Collectors returns what measures the log.
func (l *Log) Collectors() []prometheus.Collector {
	return []prometheus.Collector{l.records, l.recordsLost, l.linesSuppressed}
}

// key tells packets apart of which one line tells: by is the chain, which stands for the direction and the policies.
// When others isolate the pod, what there is to say is another thing. In the table of pairs it is the direction alone.
type key struct {
	src, dst netip.Addr
	proto    uint8
	dstPort  uint16
	by       string
}
