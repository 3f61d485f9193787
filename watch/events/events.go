// SPDX-License-Identifier: Apache-2.0

// Package events writes Kubernetes Events that tell the users of a cluster about problems of their policies and pods.
package events

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Reasons of the events that netpold writes.
const (
	reasonRejected    = "NetworkPolicyRejected"    // a policy does not compile in full
	reasonOverLimit   = "NetworkPolicyOverLimit"   // a policy asks for more than a limit allows
	reasonQuarantined = "NetworkPolicyQuarantined" // the kernel refused a policy's rules
	reasonUnenforced  = "NetworkPolicyUnenforced"  // a pod that a policy selects is not isolated: the kernel refused it
	reasonUnaudited   = "NetworkPolicyUnaudited"   // the kernel refused an audited policy's rules
	reasonBlocked     = "ConnectionBlocked"        // the policies of a pod denied a connection
	reasonWouldBlock  = "ConnectionWouldBeBlocked" // the audited policies of a pod would have denied it
)

// Bounds on Events, whatever is applied to a cluster or sent to a pod.
const (
	maxTroubles    = 1000             // troubles of policies that this node writes Events about
	troubleSpread  = 10 * time.Second // each waits a random part of this, as every node writes the same Event
	troublesRepeat = 30 * time.Minute // an API server forgets an event, by default after an hour

	maxPodKinds = 16 // of blocked connections, per pod
	podKindIdle = 10 * time.Minute
	podBurst    = 5 // writes at once, then one per podEvery
	podEvery    = time.Minute
	dropBurst   = 10 // the same for all pods of the node
	dropEvery   = 2 * time.Second

	maxMessage = 1024 // bytes: what events.k8s.io allows
)

// Writer writes events. If the server answered, errors are those of k8s.io/apimachinery/pkg/api/errors.
type Writer interface {
	Create(context.Context, *corev1.Event) error
	// Patch changes an event by a merge patch.
	Patch(ctx context.Context, event types.NamespacedName, patch []byte) error
}

// Config is what a Recorder needs.
type Config struct {
	Writer Writer
	Node   string
	Drops  bool // also write events about blocked connections, on pods
	Log    *slog.Logger
}

// Recorder writes events. Its methods never block: what the API server does not take in time is dropped. A nil Recorder
// does nothing.
type Recorder struct {
	Config
	policies, drops *queue
	failure         rate.Sometimes // limits the logging of write errors

	mu       sync.Mutex                         // never held while an event is written or another lock is taken
	uids     map[types.NamespacedName]types.UID // of policies
	troubles map[Trouble]*record
	pods     map[types.NamespacedName]*pod // of this node; empty without Drops
}

// record is an event and how much of it is written.
type record struct {
	event   *corev1.Event // as it should be
	queued  bool
	written bool // further changes are patches
	over    bool // the policy's trouble is over
	trouble Trouble
	reason  string // of the trouble
}

// pod is a pod of this node.
type pod struct {
	uid     types.UID
	limiter *rate.Limiter
	kinds   map[string]*record
}

// New returns a recorder that writes nothing before Run.
func New(config Config) *Recorder {
	return &Recorder{
		Config:   config,
		policies: newQueue(maxTroubles, spread(troubleSpread)),
		drops:    newQueue(maxPodKinds*dropBurst, rate.NewLimiter(rate.Every(dropEvery), dropBurst).Wait),
		failure:  rate.Sometimes{First: 1, Interval: time.Hour},
		uids:     make(map[types.NamespacedName]types.UID),
		troubles: make(map[Trouble]*record),
		pods:     make(map[types.NamespacedName]*pod),
	}
}

// SetPod notes which pod of this node has a name: an event belongs to that pod, not to the next one of its name.
func (e *Recorder) SetPod(p *corev1.Pod) {
	if e == nil || !e.Drops || p.Spec.NodeName != e.Node || p.Spec.HostNetwork {
		return
	}
	name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.pods[name]; old == nil || old.uid != p.UID {
		e.pods[name] = &pod{
			uid: p.UID, limiter: rate.NewLimiter(rate.Every(podEvery), podBurst), kinds: make(map[string]*record),
		}
	}
}

// DeletePod forgets a pod.
func (e *Recorder) DeletePod(name types.NamespacedName) {
	if e == nil || !e.Drops {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pods, name)
}

// Packets are denied packets of one kind.
type Packets struct {
	Kind  string // opaque; packets of the same kind share one event
	Text  string // as in the log
	Count int
	Audit bool // audited policies would deny them: a Normal event, not a Warning
}

// Blocked records on a pod of this node that its policies denied packets.
func (e *Recorder) Blocked(name types.NamespacedName, packets Packets) {
	if e == nil || !e.Drops {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pods[name]
	if p == nil { // gone, or never on this node
		return
	}
	r := p.kinds[packets.Kind]
	if r == nil && p.full() {
		return
	}
	if r == nil {
		r = &record{event: e.packetsEvent(name, p.uid, packets)}
		p.kinds[packets.Kind] = r
	}
	r.event.Count += int32(packets.Count)
	r.event.LastTimestamp, r.event.Message = metav1.Now(), message(packets.Text)
	if r.queued {
		return
	}
	allowed := p.limiter.Allow()
	if allowed {
		e.drops.offer(r)
	}
}

// packetsEvent returns an event about packets of a pod that has yet to count them.
func (e *Recorder) packetsEvent(name types.NamespacedName, uid types.UID, packets Packets) *corev1.Event {
	reason, severity := reasonBlocked, corev1.EventTypeWarning
	if packets.Audit {
		reason, severity = reasonWouldBlock, corev1.EventTypeNormal
	}
	object := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: name.Namespace, Name: name.Name,
		UID: uid}
	event := newEvent(object, reason, fmt.Sprint(packets.Kind, time.Now().UnixNano()))
	event.Type, event.Count, event.Source.Host, event.ReportingInstance = severity, 0, e.Node, e.Node
	return event
}

// full forgets old kinds of packets if there is no room for another one, and says whether there is still none.
func (p *pod) full() bool {
	if len(p.kinds) == maxPodKinds {
		maps.DeleteFunc(p.kinds, func(_ string, r *record) bool {
			return !r.queued && time.Since(r.event.LastTimestamp.Time) > podKindIdle
		})
	}
	return len(p.kinds) == maxPodKinds
}

// newEvent returns an event about an object that happened once, now. Its name follows from the object, the reason and
// which.
func newEvent(object corev1.ObjectReference, reason, which string) *corev1.Event {
	now := metav1.Now()
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			// events about cluster-scoped objects go to "default"
			Namespace: cmp.Or(object.Namespace, metav1.NamespaceDefault), Name: nameOf(object, reason, which),
		},
		InvolvedObject:      object,
		Reason:              reason,
		Type:                corev1.EventTypeWarning,
		Source:              corev1.EventSource{Component: "netpold"},
		ReportingController: "netpold",
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	}
}

// nameOf returns a unique name that begins with the object's.
func nameOf(object corev1.ObjectReference, reason, which string) string {
	const maxName, hashLen = 253, 16
	sum := sha256.Sum256([]byte(string(object.UID) + "\x00" + reason + "\x00" + which))
	name := object.Name
	if len(name) > maxName-hashLen-1 {
		name = strings.TrimRight(name[:maxName-hashLen-1], "-.")
	}
	return name + "." + hex.EncodeToString(sum[:])[:hashLen]
}

// message truncates a text to what an event may have.
func message(text string) string {
	const more = "…"
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
