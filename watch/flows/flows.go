// SPDX-License-Identifier: Apache-2.0

// Package flows knows who has connected to whom: it reads the sets in which the kernel counts the new connections of
// the node's pods (package translate/observe), gives names to their addresses, as of then, and keeps a history.
//
// Nothing comes here for a packet, and no packet waits: the sets are read every few seconds, and when somebody asks.
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

// How often the sets are read: every interval, but for a part of the time only.
const (
	interval = 5 * time.Second
	pauses   = 50 // so many times as long as a read takes, there is none
)

// Reads reads the sets that packets fill.
type Reads interface {
	// Elements returns the elements of a set with their counts. That the set is not there is an error that is
	// fs.ErrNotExist.
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

// Log is what is known of flows. The loop calls Made and Retired, and the state Left; the other methods are for
// everybody.
type Log struct {
	config      Config
	known, fill prometheus.Gauge
	connections prometheus.Counter
	lost        prometheus.Counter
	reading     chan struct{} // capacity 1: full while the kernel is read for somebody

	mu      sync.Mutex            // guards the fields below; no other lock is taken while it is held
	tables  map[string]*table     // of this process, that count
	retired map[string]bool       // tables whose last counts are known
	former  map[netip.Addr]former // who had an address that nobody has now
	state   State
	told    uint64    // of state.Lost, that a line told of
	tell    time.Time // when a line may tell of more
	history history
}

// State is how much is observed, as `netpold status` shows it.
type State struct {
	Known int    `json:"known"` // flows of the history, at most twice Max
	Held  int    `json:"held"`  // most flows in the kernel's set
	Max   uint32 `json:"max"`   // of Held
	// new connections that were not counted as the set was full, since the start
	Lost  uint64 `json:"lost"`
	Error string `json:"error,omitempty"` // why the sets could not be read the last time
}

// New returns a log that knows of no flows.
func New(config Config) *Log {
	return &Log{
		config: config,
		known: prometheus.NewGauge(prometheus.GaugeOpts{Name: "netpold_flows",
			Help: "Flows that `netpold flows` knows, at most twice as many as --observe-max."}),
		fill: prometheus.NewGauge(prometheus.GaugeOpts{Name: "netpold_flow_set_fill_ratio",
			Help: "How full the fullest of the kernel's sets of flows is; at 1, new flows are not counted."}),
		connections: prometheus.NewCounter(prometheus.CounterOpts{Name: "netpold_flow_connections_total",
			Help: "New connections from and to pods of this node that the kernel counted in its sets of flows."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "netpold_flows_lost_total",
			Help: "New connections that were not counted, as the kernel's set of flows was full."}),
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

// Collectors returns what measures the log.
func (l *Log) Collectors() []prometheus.Collector {
	if !l.On() {
		return nil
	}
	return []prometheus.Collector{l.known, l.fill, l.connections, l.lost}
}

// State returns how much is observed, as of the last read; nil if nothing is.
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
		<-ctx.Done()
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
		_ = l.Read(ctx) // the state has the error
		wait = max(interval, pauses*time.Since(began))
	}
}

// former is a pod that had an address.
type former struct {
	end  flows.End
	left time.Time
}
