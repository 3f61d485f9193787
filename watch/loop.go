// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/denied"
	"github.com/netpold/netpold/watch/drops"
	"github.com/netpold/netpold/watch/events"
	"github.com/netpold/netpold/watch/flows"
	"github.com/netpold/netpold/watch/preflight"
)

// Loop makes the kernel follow the state. It is the [Sink] of a source: events edit memory under its one lock, and one
// transaction is in flight at a time; what arrives meanwhile makes the next.
//
// Mutexes are taken in this order: Loop.mu, and then one of denied.Counter.mu, drops.Log.mu, flows.Log.mu and
// events.Recorder.mu. Nobody holds one while waiting for the kernel, a file or the API server. Whoever reads from the
// kernel may first wait, until the context ends, for another denied.Counter.Read and for a turn with the kernel.Reader;
// the loop's goroutine waits for neither.
type Loop struct {
	config  LoopConfig // not changed after NewLoop
	metrics *metrics
	started time.Time
	wake    chan struct{} // capacity 1; full: something may be pending

	denied *denied.Counter
	drops  *drops.Log
	flows  *flows.Log
	looks  looks // used only by Run's goroutine

	mu         sync.Mutex // guards the fields below
	state      *translate.State
	troubles   troubles
	quarantine quarantine
	status     Status
	inFlight   bool // whether a transaction is in flight
	admissions admissions
	told       chan struct{} // closed at the next event; nil if nobody waits for it
	more       bool          // the last transaction was a portion, and more is to follow
	doubts     doubts
	table      *nft.Table // the state's, as of the last transaction
	oldest     time.Time  // arrival of the oldest event that is in no transaction; zero if none
	reason     string     // for the next replacement of the whole table
	awaySince  time.Time  // when the source went away; zero while it answers
	awayError  string
	guarded    policy.Guard // as last logged
}

// LoopConfig is what a loop needs.
type LoopConfig struct {
	Kernel Kernel
	Reads  Reads            // for queries, so that the loop waits for nobody's reads; nil: Kernel
	Events *events.Recorder // nil writes none
	Log    *slog.Logger

	// For reports.
	Version, Node, Source string
	Linux                 KernelReport

	// Addresses returns the node's own current addresses. Nil: none are known.
	Addresses func() ([]netip.Addr, error)

	// Findings returns what lets traffic bypass the policies, given the rest of a report. Nil: nothing does.
	Findings func(Report) []preflight.Finding
}

// Status is the progress of the loop.
type Status struct {
	Synced bool // the source has sent everything once
	// the kernel holds what the state says, or did before the newest event, and there is no doubt about that
	InSync       bool
	Transactions int // committed
	Recoveries   int // replacements of the whole table after the start

	Last      TransactionReport // of the last committed transaction; zero before the first
	LastError error             // of the last transaction; nil if it was committed
}

// Backoff after failed transactions: each retry replaces the whole table, holding the kernel's commit lock.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// portion is roughly how many elements one transaction may have, some 0.2 s of work, before the rest goes to another. A
// change of one namespace waits for at most one portion of others, or for one isolation that is larger.
const portion = 50_000

// NewLoop returns a loop that has not started. It takes ownership of state.
func NewLoop(state *translate.State, config LoopConfig) *Loop {
	if config.Reads == nil {
		config.Reads = config.Kernel
	}
	l := &Loop{
		config:     config,
		metrics:    newMetrics(),
		state:      state,
		started:    time.Now(),
		wake:       make(chan struct{}, 1),
		troubles:   newTroubles(),
		quarantine: newQuarantine(),
		denied:     denied.New(),
		admissions: make(admissions),
	}
	l.flows = flows.New(flows.Config{Max: state.Observe(), Table: frame.TableName, Node: config.Node,
		Reads: config.Reads, Log: config.Log, View: l.view, Addresses: config.Addresses})
	if l.flows.On() {
		state.Leaving(l.flows.Left)
	}
	l.drops = drops.New(drops.Config{Log: config.Log, View: l.view, Told: l.tellBlocked})
	return l
}

// Drops returns the log of denied packets, which is empty until it is opened and runs.
func (l *Loop) Drops() *drops.Log { return l.drops }

// Flows returns the log of flows, which is empty unless they are observed.
func (l *Loop) Flows() *flows.Log { return l.flows }

// view calls look while nothing changes the state, and says whether the source is synced.
func (l *Loop) view(look func(*translate.State)) (synced bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	look(l.state)
	return l.status.Synced
}

// tellBlocked records a drop on the isolated pod, as an Event.
func (l *Loop) tellBlocked(r drops.Record) {
	namespace, name, isPod := strings.Cut(r.Isolated().Pod, "/")
	if isPod {
		l.config.Events.Blocked(types.NamespacedName{Namespace: namespace, Name: name},
			events.Packets{Kind: r.Kind(), Text: r.Text, Count: r.Count, Audit: r.Audit})
	}
}

// Run commits what is pending until ctx ends, and nothing before the source is synced: until then a previous process's
// rules stay in force. The table stays in the kernel when Run returns.
func (l *Loop) Run(ctx context.Context) {
	backoff := minBackoff
	wake := l.wake
	var retry <-chan time.Time
	settled := make(chan uint64, 1)
	settling := false
	for {
		select {
		case <-ctx.Done():
			return
		case number := <-settled:
			settling = false
			l.reap(number)
			continue
		case <-wake:
		case <-retry:
		case <-l.quarantine.timer.C:
			l.retryQuarantined()
		}
		wake, retry = l.wake, nil
		status := l.Status()
		first := status.Transactions == 0
		if first && status.Synced {
			l.inherit(ctx)
		}
		l.look(ctx)
		err := l.commit(ctx)
		if errors.Is(err, errAgain) {
			l.poke()
			continue
		}
		if err != nil && ctx.Err() == nil {
			l.config.Log.Error("transaction failed; the last state stays in force, retrying with the whole table",
				"err", err, "retry", backoff)
			wake, retry = nil, time.After(backoff) // events wait for the replacement, which includes them
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		if number := l.retired(); number != 0 && !settling {
			settling = true
			go l.settle(ctx, number, settled)
		}
		backoff = minBackoff
		if first && l.Status().Transactions > 0 {
			for _, f := range l.Report().Preflight {
				l.config.Log.Warn("some traffic bypasses the policies", "check", f.Check, "problem", f.Problem,
					"remedy", f.Remedy)
			}
		}
	}
}

// commit commits what is pending, if anything.
func (l *Loop) commit(ctx context.Context) error {
	tx, oldest, doubts := l.pending()
	if tx == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.accepted()
		return nil
	}
	start := time.Now()
	err := l.apply(ctx, tx)
	end := time.Now()
	elapsed := end.Sub(start)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight = false
	l.status.LastError = err
	if err != nil {
		l.metrics.transactions.WithLabelValues("failed").Inc()
		l.oldest = oldest // still waiting
		l.forget(ReasonTransaction)
		again := l.refused(tx, err)
		if again {
			return errAgain
		}
		return err
	}
	l.metrics.committed(end, elapsed, oldest)
	if l.status.Transactions == 0 {
		l.config.Log.Info("policies are in force", "operations", tx.Len(), "elapsed", elapsed)
	} else if tx.Replaces() {
		l.status.Recoveries++
		l.metrics.recoveries.WithLabelValues(l.reason).Inc()
		l.config.Log.Info("table restored; policies are in force again", "reason", l.reason,
			"operations", tx.Len(), "elapsed", elapsed)
	}
	if tx.Replaces() {
		l.doubts.settle(doubts)
	}
	l.admissions.release()
	l.tellGuard()
	l.status.Transactions++
	l.status.Last = TransactionReport{Time: end, Operations: tx.Len(), Seconds: elapsed.Seconds()}
	l.accepted()
	what := "transaction"
	if oldest.IsZero() {
		what = "deleted retired chains and sets"
	}
	l.config.Log.Debug(what, "operations", tx.Len(), "elapsed", elapsed, "replaces", tx.Replaces())
	return nil
}

// pending returns the next transaction or nil, the arrival of its oldest event if it has any, and the number of doubts
// raised before it.
func (l *Loop) pending() (*nft.Transaction, time.Time, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.status.Synced {
		return nil, time.Time{}, 0
	}
	oldest := l.oldest
	if oldest.IsZero() && l.table == nil { // becoming synced is an event, too
		oldest = time.Now()
	}
	l.oldest = time.Time{}
	l.table, l.more = l.state.Portion(portion)
	if l.more { // and what arrived in between
		l.oldest = oldest
		l.poke()
	}
	tx := l.table.Take()
	l.admissions.include(l.state)
	if tx == nil {
		l.admissions.release()
	}
	l.tellTroubles()
	l.inFlight = tx != nil
	return tx, oldest, l.doubts.raised
}

// forget makes the next transaction replace the whole table.
func (l *Loop) forget(reason string) {
	l.reason = reason
	if l.table != nil {
		l.table.Forget()
	}
	if l.oldest.IsZero() {
		l.oldest = time.Now()
	}
}

// Update lets edit change the objects as one event: no transaction has only part of it.
func (l *Loop) Update(edit func(Objects)) {
	arrived := time.Now()
	l.mu.Lock()
	edit(objects{l.state, l})
	if l.told != nil {
		close(l.told)
		l.told = nil
	}
	l.tellTroubles()
	changed := l.state.Changed()
	if changed && l.oldest.IsZero() {
		l.oldest = arrived
	}
	l.mu.Unlock()
	if changed {
		l.poke()
	}
}

// Away notes that the source does not answer, and why; nil means that it does again. The last state stays in force
// meanwhile.
func (l *Loop) Away(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && !l.awaySince.IsZero():
		l.config.Log.Info("source is back", "source", l.config.Source, "away",
			time.Since(l.awaySince).Round(time.Millisecond))
		l.awaySince, l.awayError = time.Time{}, ""
	case err != nil && l.awaySince.IsZero():
		l.config.Log.Warn("source does not answer; the last state stays in force", "source",
			l.config.Source, "err", err)
		l.awaySince, l.awayError = time.Now(), err.Error()
	case err != nil:
		l.awayError = err.Error()
	}
}

// Synced notes that the source has sent everything. The loop starts to commit.
func (l *Loop) Synced() {
	l.mu.Lock()
	l.status.Synced = true
	l.mu.Unlock()
	l.poke()
}

// poke wakes the loop if it sleeps.
func (l *Loop) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // it is already awake
	}
}

// Status returns the progress of the loop.
func (l *Loop) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	status := l.status
	status.InSync = l.inSync()
	return status
}

// inSync computes [Status.InSync].
func (l *Loop) inSync() bool {
	return l.status.Transactions > 0 && l.status.LastError == nil && !l.inFlight && !l.more && !l.doubts.open() &&
		!l.table.Late()
}

// objects edits the loop's state; the caller holds its lock.
type objects struct {
	*translate.State
	loop *Loop
}

// SetClusterPolicy also informs the events. What does not compile becomes one of the state's troubles.
func (o objects) SetClusterPolicy(p policy.ClusterPolicy) {
	o.loop.config.Events.SetClusterPolicy(p)
	o.State.SetClusterPolicy(p)
}

// DeleteClusterPolicy also informs the events.
func (o objects) DeleteClusterPolicy(name string) {
	o.loop.config.Events.DeletePolicy(types.NamespacedName{Name: name})
	o.State.DeleteClusterPolicy(name)
}

// SetPolicy also informs the events. What does not compile becomes one of the state's troubles.
func (o objects) SetPolicy(np *networkingv1.NetworkPolicy) {
	o.loop.config.Events.SetPolicy(np)
	_ = o.State.SetPolicy(np)
}

// SetNamespaceMode sets the mode of a namespace. An invalid one becomes one of the state's troubles.
func (o objects) SetNamespaceMode(name string, annotations map[string]string) {
	_ = o.State.SetNamespaceMode(name, annotations)
}

// DeletePolicy also informs the events.
func (o objects) DeletePolicy(name types.NamespacedName) {
	o.loop.config.Events.DeletePolicy(name)
	o.State.DeletePolicy(name)
}
