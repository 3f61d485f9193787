// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Limits on writing an event.
const (
	timeout  = 10 * time.Second
	minRetry = time.Second // quadrupled each time
	maxRetry = 16 * time.Second
)

// queue holds events to be written, one after another.
type queue struct {
	records chan *record
	pace    func(context.Context) error // waits until one may be written
}

func newQueue(size int, pace func(context.Context) error) *queue {
	return &queue{records: make(chan *record, size), pace: pace}
}

// offer puts a record into the queue if there is room. The caller holds the lock of the record's events.
func (q *queue) offer(r *record) {
	if r.queued {
		return
	}
	select {
	case q.records <- r:
		r.queued = true
	default:
	}
}

// spread returns a pace of random pauses up to longest, so that all nodes do not write at once.
func spread(longest time.Duration) func(context.Context) error {
	return func(ctx context.Context) error { return pause(ctx, rand.N(longest)) }
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Run writes events until ctx ends.
func (e *Recorder) Run(ctx context.Context) {
	if e == nil {
		return
	}
	var group sync.WaitGroup
	for _, q := range []*queue{e.policies, e.drops} {
		group.Go(func() { e.drain(ctx, q) })
	}
	group.Go(func() { e.repeatTroubles(ctx) })
	group.Wait()
}

// drain writes what is in the queue until ctx ends.
func (e *Recorder) drain(ctx context.Context, q *queue) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-q.records:
			if e.dismissed(r) {
				continue
			}
			if q.pace(ctx) != nil {
				return
			}
			e.deliver(ctx, r)
		}
	}
}

// dismissed says whether a record no longer has anything to write.
func (e *Recorder) dismissed(r *record) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.over {
		r.queued = false
		e.discard(r)
	}
	return r.over
}

// deliver writes what is new in a record. It retries a few times; after that, the record waits until it is offered
// again.
func (e *Recorder) deliver(ctx context.Context, r *record) {
	for retry := minRetry; ; retry *= 4 {
		err := e.write(ctx, r)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			e.Log.Debug("no Event written: its namespace is being deleted", "err", err)
			return
		case !passing(err) || retry > maxRetry:
			e.failure.Do(func() {
				e.Log.Warn("cannot write Events (logged at most hourly); enforcement unaffected",
					"err", err)
			})
			return
		}
		if pause(ctx, retry) != nil {
			return
		}
	}
}

// write writes what is new in a record. "Already exists" counts as success: another node wrote it, or an attempt whose
// answer was lost.
func (e *Recorder) write(ctx context.Context, r *record) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	e.mu.Lock()
	r.queued = false
	e.discard(r)
	over, written, event := r.over, r.written, r.event.DeepCopy()
	e.mu.Unlock()
	if over {
		return nil
	}
	name := types.NamespacedName{Namespace: event.Namespace, Name: event.Name}
	if written {
		patch, err := json.Marshal(change{event.Count, event.LastTimestamp, event.Message})
		if err != nil {
			return fmt.Errorf("encode the patch of event %s: %w", name, err)
		}
		if err := e.Writer.Patch(ctx, name, patch); !apierrors.IsNotFound(err) { // NotFound: it has expired
			return err
		}
	}
	if err := e.Writer.Create(ctx, event); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.written = r.event.Name == event.Name // otherwise it has changed meanwhile, and is queued again
	return nil
}

// change is what a repeated event changes.
type change struct {
	Count         int32       `json:"count"`
	LastTimestamp metav1.Time `json:"lastTimestamp"`
	Message       string      `json:"message"`
}

// passing says whether an error may pass by itself: no answer, or "not now".
func passing(err error) bool {
	return apierrors.ReasonForError(err) == metav1.StatusReasonUnknown || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}
