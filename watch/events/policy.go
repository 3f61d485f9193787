// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
)

// Trouble is one kind of trouble of a policy.
type Trouble struct {
	Policy types.NamespacedName
	Kind   book.TroubleKind
}

// words are the reason of its event, and the start of its message.
func (t Trouble) words() (reason, begin string) {
	words := [...]struct{ reason, begin, cluster string }{ // cluster is begin of a ClusterNetworkPolicy, if it differs
		book.Unaudited: {reason: reasonUnaudited, begin: "not audited; its rules were refused: "},
		book.Rejected: {reason: reasonRejected, begin: "in force without the parts that do not compile: ",
			cluster: "in force; the parts that do not compile fail closed: "},
		book.OverLimit: {reason: reasonOverLimit, begin: "over a limit; the excess allows nothing: "},
		book.Quarantined: {reason: reasonQuarantined, begin: "quarantined; its pods are allowed nothing: ",
			cluster: "quarantined; its subjects are denied everything: "},
		book.Unenforced: {reason: reasonUnenforced,
			begin: "not enforced for a pod; the kernel refuses everything that would isolate it: "},
	}[t.Kind]
	if t.Policy.Namespace == "" {
		return words.reason, cmp.Or(words.cluster, words.begin)
	}
	return words.reason, words.begin
}

// SetPolicy notes which policy has a name: an event belongs to that policy, not to the next one of its name.
func (e *Recorder) SetPolicy(np *networkingv1.NetworkPolicy) {
	if e == nil {
		return
	}
	e.identify(types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, np.UID)
}

// SetClusterPolicy is [Recorder.SetPolicy] for a ClusterNetworkPolicy, which here always has an empty namespace.
func (e *Recorder) SetClusterPolicy(p policy.ClusterPolicy) {
	if e != nil {
		e.identify(types.NamespacedName{Name: p.Name}, p.UID)
	}
}

// identify notes which policy has a name.
func (e *Recorder) identify(name types.NamespacedName, uid types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.uids[name] == uid {
		return
	}
	e.uids[name] = uid
	for _, kind := range book.TroubleKinds() {
		if r := e.troubles[Trouble{name, kind}]; r != nil && !r.over {
			e.offerTrouble(r, r.reason)
		}
	}
}

// DeletePolicy forgets a policy.
func (e *Recorder) DeletePolicy(name types.NamespacedName) {
	if e == nil {
		return
	}
	for _, kind := range book.TroubleKinds() {
		e.Over(Trouble{name, kind})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.uids, name)
}

// Trouble records that a policy is not in force as written, once for each reason. All nodes give the event the same
// name, so that there is only one.
func (e *Recorder) Trouble(id Trouble, reason string) {
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
		r = &record{trouble: id}
		e.troubles[id] = r
	}
	e.offerTrouble(r, reason)
}

// offerTrouble makes the event of a trouble, and queues it if it differs from the last one.
func (e *Recorder) offerTrouble(r *record, reason string) {
	name := r.trouble.Policy
	kind, begin := r.trouble.words()
	object := corev1.ObjectReference{
		APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy", Namespace: name.Namespace,
		Name: name.Name, UID: e.uids[name],
	}
	if name.Namespace == "" {
		object.APIVersion, object.Kind = v1alpha2.GroupVersion.String(), "ClusterNetworkPolicy"
	}
	event := newEvent(object, kind, reason)
	event.Message = message(begin + reason)
	if r.event != nil && !r.over && r.event.Name == event.Name {
		return
	}
	r.event, r.reason, r.written, r.over = event, reason, false, false
	e.policies.offer(r)
}

// Over forgets a trouble.
func (e *Recorder) Over(id Trouble) {
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

// discard forgets a record that is over, unless it is still queued: a policy that flips back and forth is queued once.
func (e *Recorder) discard(r *record) {
	if r.over && !r.queued && e.troubles[r.trouble] == r {
		delete(e.troubles, r.trouble)
	}
}

// repeatTroubles writes ongoing troubles again, until ctx ends. An event that still exists is left alone.
func (e *Recorder) repeatTroubles(ctx context.Context) {
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
