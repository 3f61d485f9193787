// SPDX-License-Identifier: Apache-2.0

// Package flows knows who has connected to whom: it reads the sets in which the kernel counts the new connections of
// the node's pods (package translate/observe), resolves their addresses to the names of that moment, and keeps a
// history.
//
// It sees no packet and delays none: the sets are read every few seconds, and when somebody asks.
package flows

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/flows"
)

// How often the sets are read: every interval, but for a fraction of the time only.
const (
	interval = 5 * time.Second
	pauses   = 50 // a pause is at least this many times as long as a read
)

// Reads reads sets that packets fill.
type Reads interface {
	// Elements returns the elements of a set with their counts; fs.ErrNotExist if there is no such set.
	Elements(ctx context.Context, table, set string, t nft.SetType) ([]nft.Counted, error)
}

// Config is what a Log needs.
type Config struct {
	Max   uint32 // flows of each family that the kernel counts; twice as many are kept; 0 observes nothing
	Table string // that is in force
	Node  string
	Reads Reads
	Log   *slog.Logger

	// View calls look while nothing changes the state, which look must not keep.
	View func(look func(*translate.State)) (synced bool)

	// Addresses returns the node's own addresses, as of now.
	Addresses func() ([]netip.Addr, error)
}

// Log is what is known about flows. The loop calls Made and Retired, and the state Left; anybody may call the other
// methods.
type Log struct {
	config      Config
	known, fill prometheus.Gauge
	connections prometheus.Counter
	lost        prometheus.Counter
	reading     chan struct{} // capacity 1: full during a read

	mu      sync.Mutex            // guards the fields below; no other lock is taken while it is held
	tables  map[string]*table     // those of this process that count
	retired map[string]bool       // tables whose last counts are known
	former  map[netip.Addr]former // who had an address that nobody has now
	state   State
	told    uint64    // how much of state.Lost was logged
	tell    time.Time // when more may be logged
	history history
}

// State is how much is observed, as `netpold status` shows it.
type State struct {
	Known int    `json:"known"` // flows in the history, at most twice Max
	Held  int    `json:"held"`  // flows in the fullest of the kernel's sets
	Max   uint32 `json:"max"`   // of Held
	// new connections not counted because the set was full, since the start
	Lost  uint64 `json:"lost"`
	Error string `json:"error,omitempty"` // why the last read failed
}

// New returns a log that knows of no flows.
func New(config Config) *Log {
	return &Log{
		config: config,
		known: prometheus.NewGauge(prometheus.GaugeOpts{Name: "netpold_flows",
			Help: "Flows known to `netpold flows`, at most twice --observe-max."}),
		fill: prometheus.NewGauge(prometheus.GaugeOpts{Name: "netpold_flow_set_fill_ratio",
			Help: "Fill ratio of the fullest of the kernel's flow sets; at 1, new flows are not counted."}),
		connections: prometheus.NewCounter(prometheus.CounterOpts{Name: "netpold_flow_connections_total",
			Help: "New connections to and from pods of this node, as counted in the kernel's flow sets."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "netpold_flows_lost_total",
			Help: "New connections not counted because the kernel's flow set was full."}),
		reading: make(chan struct{}, 1),
		tables:  make(map[string]*table),
		retired: make(map[string]bool),
		former:  make(map[netip.Addr]former),
		state:   State{Max: config.Max},
		history: history{entries: make(map[key]*entry), changed: make(chan struct{})},
	}
}

// On says whether flows are observed.
func (l *Log) On() bool { return l.config.Max > 0 }

// Collectors returns the log's metrics.
func (l *Log) Collectors() []prometheus.Collector {
	if !l.On() {
		return nil
	}
	return []prometheus.Collector{l.known, l.fill, l.connections, l.lost}
}

// State returns how much is observed, as of the last read; nil without --observe.
func (l *Log) State() *State {
	if !l.On() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	return &s
}

// Run reads the sets until ctx ends.
func (l *Log) Run(ctx context.Context) {
	if !l.On() {
		return
	}
	wait := interval
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		began := time.Now()
		_ = l.Read(ctx) // State has the error
		wait = max(interval, pauses*time.Since(began))
	}
}

// former is a pod that had an address.
type former struct {
	end  flows.End
	left time.Time
}
