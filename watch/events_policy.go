// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
)

// setPolicy notes which policy has a name: an event is of the policy, not of the next one of its name.
func (e *Events) setPolicy(np *networkingv1.NetworkPolicy) {
	if e == nil {
		return
	}
	name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.uids[name] == np.UID {
		return
	}
	e.uids[name] = np.UID
	for _, kind := range translate.TroubleKinds() {
		if r := e.troubles[troubleID{name, kind}]; r != nil && !r.over {
			e.offerTrouble(r, r.reason)
		}
	}
}

// deletePolicy forgets a policy.
func (e *Events) deletePolicy(name types.NamespacedName) {
	if e == nil {
		return
	}
	for _, kind := range translate.TroubleKinds() {
		e.over(troubleID{name, kind})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.uids, name)
}

// trouble tells of a policy that is not in force as it is written: once for each reason. All nodes give the event the same name, so that
// there is one.
func (e *Events) trouble(id troubleID, reason string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.troubles[id]
	switch {
	case r == nil && len(e.troubles) == maxTroubles:
		return
	case r == nil:
		r = &eventRecord{trouble: id}
		e.troubles[id] = r
	}
	e.offerTrouble(r, reason)
}

// offerTrouble makes the event of a trouble, and has it written if it is another one than before.
func (e *Events) offerTrouble(r *eventRecord, reason string) {
	name, text := r.trouble.policy, r.trouble.text()
	event := newEvent(corev1.ObjectReference{
		APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy", Namespace: name.Namespace, Name: name.Name, UID: e.uids[name],
	}, text.reason, reason)
	event.Message = eventMessage(text.event + reason)
	if r.event != nil && !r.over && r.event.Name == event.Name {
		return
	}
	r.event, r.reason, r.written, r.over = event, reason, false, false
	e.policies.offer(r)
}

// over forgets a trouble.
func (e *Events) over(id troubleID) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.troubles[id]; r != nil {
		r.over = true
		e.discard(r)
	}
}

// discard forgets a record that is over, unless it is in the queue still: a policy that changes to and fro is there once.
func (e *Events) discard(r *eventRecord) {
	if r.over && !r.queued && e.troubles[r.trouble] == r {
		delete(e.troubles, r.trouble)
	}
}

// repeatTroubles tells again of what is still so, until ctx ends. Where the event is still there, nothing happens.
func (e *Events) repeatTroubles(ctx context.Context) {
	tick := time.NewTicker(troublesRepeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.mu.Lock()
		for _, r := range e.troubles {
			if r.queued {
				continue
			}
			now := metav1.Now()
			r.event.FirstTimestamp, r.event.LastTimestamp, r.written = now, now, false
			e.policies.offer(r)
		}
		e.mu.Unlock()
	}
}
