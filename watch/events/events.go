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

// Blocked records on a pod of this node that its policies denied packets, in the words of the log. Packets of the same
// kind, an opaque key, share one event.
func (e *Recorder) Blocked(name types.NamespacedName, kind, text string, packets int) {
	e.packets(name, what{kind, reasonBlocked, corev1.EventTypeWarning, text}, packets)
}

// WouldBlock is Blocked for packets that audited policies would deny: a Normal event, not a Warning.
func (e *Recorder) WouldBlock(name types.NamespacedName, kind, text string, packets int) {
	e.packets(name, what{kind, reasonWouldBlock, corev1.EventTypeNormal, text}, packets)
}

// what is reported about packets.
type what struct{ kind, reason, typ, text string }

// packets records packets on a pod.
func (e *Recorder) packets(name types.NamespacedName, w what, packets int) {
	if e == nil || !e.Drops {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pods[name]
	if p == nil { // gone, or never on this node
		return
	}
	r := p.kind(w.kind, func() *corev1.Event {
		object := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: name.Namespace,
			Name: name.Name, UID: p.uid}
		event := newEvent(object, w.reason, fmt.Sprint(w.kind, time.Now().UnixNano()))
		event.Type = w.typ
		event.Count, event.Source.Host, event.ReportingInstance = 0, e.Node, e.Node
		return event
	})
	if r == nil {
		return
	}
	r.event.Count += int32(packets)
	r.event.LastTimestamp, r.event.Message = metav1.Now(), message(w.text)
	if r.queued {
		return
	}
	allowed := p.limiter.Allow()
	if allowed {
		e.drops.offer(r)
	}
}

// kind returns the record of a kind of packets. If there is none and there is room, it adds one with the event from
// made.
func (p *pod) kind(key string, made func() *corev1.Event) *record {
	if r := p.kinds[key]; r != nil {
		return r
	}
	if len(p.kinds) == maxPodKinds {
		for old, r := range p.kinds {
			if !r.queued && time.Since(r.event.LastTimestamp.Time) > podKindIdle {
				delete(p.kinds, old)
			}
		}
	}
	if len(p.kinds) == maxPodKinds {
		return nil
	}
	r := &record{event: made()}
	p.kinds[key] = r
	return r
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
