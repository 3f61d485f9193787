// SPDX-License-Identifier: Apache-2.0

package watch

import (
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
	EventRejected    = "NetworkPolicyRejected"    // a policy does not compile in full
	EventOverLimit   = "NetworkPolicyOverLimit"   // a policy asks for more than a limit allows
	EventQuarantined = "NetworkPolicyQuarantined" // what follows from a policy was refused
	EventBlocked     = "ConnectionBlocked"        // the policies of a pod denied a connection
)

// Bounds of events, whatever is applied to a cluster or sent to a pod.
const (
	maxTroubles    = 1000             // troubles of policies with an event of this node
	troubleSpread  = 10 * time.Second // each waits a random part of it: every node of the cluster writes the same event
	troublesRepeat = 30 * time.Minute // an API server forgets an event, by default after an hour

	maxPodKinds = 16 // of blocked connections that are told apart
	podKindIdle = 10 * time.Minute
	podBurst    = 5 // writes at once, then one per podEvery
	podEvery    = time.Minute
	dropBurst   = 10 // the same for all pods of the node
	dropEvery   = 2 * time.Second

	maxEventMessage = 1024 // bytes: what events.k8s.io allows
)

// EventWriter writes events. Where the server answered, errors are of k8s.io/apimachinery/pkg/api/errors.
type EventWriter interface {
	Create(context.Context, *corev1.Event) error
	// Patch changes an event by a merge patch.
	Patch(ctx context.Context, event types.NamespacedName, patch []byte) error
}

// EventsConfig is what Events need.
type EventsConfig struct {
	Writer EventWriter
	Node   string
	Drops  bool // also say in events of pods what was blocked
	Log    *slog.Logger
}

// Events tell the users of the cluster what they should know of their policies and pods, as Kubernetes Events. To tell never waits:
// what the API server does not take in time is not told. A nil Events tells nothing.
type Events struct {
	EventsConfig
	policies, drops *eventQueue
	failure         rate.Sometimes // to write one, as logged

	mu       sync.Mutex                         // never held while an event is written; taken while the loop's is held
	uids     map[types.NamespacedName]types.UID // of policies
	troubles map[troubleID]*eventRecord
	pods     map[types.NamespacedName]*eventPod // of this node; none without Drops
}

// eventRecord is an event and what of it is written.
type eventRecord struct {
	event   *corev1.Event // as it should be
	queued  bool
	written bool // so that what is new is a patch
	over    bool // not so any more: of a policy in whose trouble it is
	trouble troubleID
	reason  string // of the trouble
}

// eventPod is a pod of this node.
type eventPod struct {
	uid     types.UID
	limiter *rate.Limiter
	kinds   map[dropKey]*eventRecord
}

// NewEvents returns events of which none is written before Run.
func NewEvents(config EventsConfig) *Events {
	return &Events{
		EventsConfig: config,
		policies:     newEventQueue(maxTroubles, spread(troubleSpread)),
		drops:        newEventQueue(maxPodKinds*dropBurst, rate.NewLimiter(rate.Every(dropEvery), dropBurst).Wait),
		failure:      rate.Sometimes{First: 1, Interval: time.Hour},
		uids:         make(map[types.NamespacedName]types.UID),
		troubles:     make(map[troubleID]*eventRecord),
		pods:         make(map[types.NamespacedName]*eventPod),
	}
}

// SetPod notes which pod of this node has a name: an event is of the pod, not of the next one of its name.
func (e *Events) SetPod(p *corev1.Pod) {
	if e == nil || !e.Drops || p.Spec.NodeName != e.Node || p.Spec.HostNetwork {
		return
	}
	name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.pods[name]; old == nil || old.uid != p.UID {
		e.pods[name] = &eventPod{
			uid: p.UID, limiter: rate.NewLimiter(rate.Every(podEvery), podBurst), kinds: make(map[dropKey]*eventRecord),
		}
	}
}

// DeletePod forgets a pod.
func (e *Events) DeletePod(name types.NamespacedName) {
	if e == nil || !e.Drops {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pods, name)
}

// blocked tells the isolated pod of an entry's drops, in the words of the log. It is called when a line is written.
func (e *Events) blocked(entry *dropEntry, text string) {
	if e == nil || !e.Drops {
		return
	}
	end, _ := entry.who.isolated(entry.drop)
	if !end.found {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	pod := e.pods[end.pod.NamespacedName]
	if pod == nil { // it is gone, or was not here
		return
	}
	d := entry.drop
	r := pod.kind(dropKey{d.Src, d.Dst, d.Proto, d.DstPort, d.Prefix}, func(key dropKey) *corev1.Event {
		object := corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: end.pod.Namespace, Name: end.pod.Name, UID: pod.uid,
		}
		event := newEvent(object, EventBlocked, fmt.Sprint(key, time.Now().UnixNano()))
		event.Count, event.Source.Host, event.ReportingInstance = 0, e.Node, e.Node
		return event
	})
	if r == nil {
		return
	}
	r.event.Count += int32(entry.count)
	r.event.LastTimestamp, r.event.Message = metav1.Now(), eventMessage(text)
	if !r.queued && pod.limiter.Allow() {
		e.drops.offer(r)
	}
}

// kind returns the record of a kind of drop; a new one, if there is room, has the event that made returns.
func (p *eventPod) kind(key dropKey, made func(dropKey) *corev1.Event) *eventRecord {
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
	r := &eventRecord{event: made(key)}
	p.kinds[key] = r
	return r
}

// newEvent returns an event of an object that happened once, now. Its name follows from the object, the reason and what tells it apart.
func newEvent(object corev1.ObjectReference, reason, which string) *corev1.Event {
	now := metav1.Now()
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: object.Namespace, Name: eventName(object, reason, which)},
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

// eventName returns a name that begins with the object's.
func eventName(object corev1.ObjectReference, reason, which string) string {
	const maxName, hashLen = 253, 16
	sum := sha256.Sum256([]byte(string(object.UID) + "\x00" + reason + "\x00" + which))
	name := object.Name
	if len(name) > maxName-hashLen-1 {
		name = strings.TrimRight(name[:maxName-hashLen-1], "-.")
	}
	return name + "." + hex.EncodeToString(sum[:])[:hashLen]
}

// eventMessage cuts a text to what an event may have.
func eventMessage(text string) string {
	const more = "…"
	if len(text) <= maxEventMessage {
		return text
	}
	end := maxEventMessage - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
