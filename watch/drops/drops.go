// SPDX-License-Identifier: Apache-2.0

// Package drops reports who was blocked. From the denied packets that the kernel logs it makes log lines, a history and
// a table of the most blocked. A packet is resolved once, when it is read, into a [Record]; everything else is made
// from that.
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
	Prefix      string // the name of the chain that denied or audited it
	SrcPort     uint16 // of TCP, UDP and SCTP
	ICMPCode    uint8
	Opens       bool // it was to open a TCP connection
	Partial     bool // ports or type not known: a later fragment, or a truncated packet
}

// Reader reads the denied packets that the kernel logs. It is for one goroutine.
type Reader interface {
	// Read waits for packets, and returns how many it put at the start of batch. When ctx ends it returns ctx's error,
	// and can be called again.
	Read(ctx context.Context, batch []Packet) (int, error)

	// Lost returns how many logged packets were lost before Read, in total.
	Lost() uint64

	// Close releases the log.
	Close() error
}

// Config is what a Log needs.
type Config struct {
	Log *slog.Logger

	// View calls look while nothing changes the state, which look must not keep. It says whether the state is complete.
	View func(look func(*translate.State)) (synced bool)

	// Told is called with each line, before its packet count is added to the text. It must not block.
	Told func(Record)
}

// Log is what is known about denied packets. Run reads them; the other methods may be called by anybody.
type Log struct {
	config                                Config
	records, recordsLost, linesSuppressed prometheus.Counter

	// audit is the same for packets that audited policies would deny, with its own lines, history and pairs, so that
	// neither crowds out the other. It has no reader, and no audit of its own.
	audit *Log

	// Used only by Run's goroutine.
	open    func() (Reader, error)
	reader  Reader // nil while the log is off
	backoff time.Duration
	window  window

	mu      sync.Mutex // guards the fields below; no other lock is taken while it is held
	state   *State     // nil before Open
	history history
	pairs   pairs
}

// New returns a log that is not open.
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

// of returns the log that a request is about: with ?audit=true, that of audited policies.
func (l *Log) of(r *http.Request) *Log {
	if r.URL.Query().Get("audit") == "true" {
		return l.audit
	}
	return l
}

// Collectors returns the log's metrics.
func (l *Log) Collectors() []prometheus.Collector {
	return []prometheus.Collector{l.records, l.recordsLost, l.linesSuppressed}
}

// key is equal for packets that share a line. by is the chain, which stands for the direction and the policies: other
// policies make another line. In the table of pairs it is only the direction.
type key struct {
	src, dst netip.Addr
	proto    uint8
	dstPort  uint16
	by       string
}
