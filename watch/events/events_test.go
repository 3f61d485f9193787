// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/logged"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/book"
)

// fakeWriter holds events as an API server does.
type fakeWriter struct {
	mu       sync.Mutex
	events   map[types.NamespacedName]*corev1.Event
	requests []string
	fail     []error       // of the next requests; nil lets one through
	hold     chan struct{} // if it is not nil, requests wait for it
}

func newFakeWriter() *fakeWriter {
	return &fakeWriter{events: make(map[types.NamespacedName]*corev1.Event)}
}

// ask records a request and returns its error, if any.
func (f *fakeWriter) ask(ctx context.Context, verb string) error {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, verb)
	if len(f.fail) == 0 {
		return nil
	}
	err := f.fail[0]
	f.fail = f.fail[1:]
	return err
}

func (f *fakeWriter) Create(ctx context.Context, e *corev1.Event) error {
	if err := f.ask(ctx, "create"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := types.NamespacedName{Namespace: e.Namespace, Name: e.Name}
	if f.events[name] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, e.Name)
	}
	f.events[name] = e
	return nil
}

func (f *fakeWriter) Patch(ctx context.Context, name types.NamespacedName, patch []byte) error {
	if err := f.ask(ctx, "patch"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.events[name]
	if e == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, name.Name)
	}
	return json.Unmarshal(patch, e)
}

// take returns the requests since the last call.
func (f *fakeWriter) take() string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.requests, " ")
	f.requests = nil
	return all
}

// expire forgets the events, as an API server does after a while.
func (f *fakeWriter) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.events)
}

// texts returns the events by eventText, ordered by their objects' names.
func (f *fakeWriter) texts() map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string][]string)
	for _, e := range f.events {
		all[e.InvolvedObject.Name] = append(all[e.InvolvedObject.Name], eventText(e))
	}
	return all
}

// types returns the types of the events, by eventText.
func (f *fakeWriter) types() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]string)
	for _, e := range f.events {
		all[eventText(e)] = e.Type
	}
	return all
}

// eventText is an event as "namespace/object uid reason ×count: message".
func eventText(e *corev1.Event) string {
	o := e.InvolvedObject
	return fmt.Sprintf("%s %s %s/%s %s %s ×%d: %s", o.APIVersion, o.Kind, o.Namespace, o.Name, o.UID, e.Reason, e.Count,
		e.Message)
}

// newTestRecorder returns a recorder that writes to w, in the bubble of a synctest, and what they log.
func newTestRecorder(t *testing.T, w Writer) (*Recorder, *logged.Lines) {
	t.Helper()
	lines := new(logged.Lines)
	e := New(Config{Writer: w, Node: "node", Drops: true, Log: lines.Log()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return e, lines
}

// badPolicy is a policy with the given CIDR, and its error.
func badPolicy(name, uid, cidr string) (*networkingv1.NetworkPolicy, error) {
	np := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)},
		Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}},
		}}},
	}
	return np, translate.New("node", translate.Options{}).SetPolicy(np)
}

// tell reports a policy as a loop does.
func tell(e *Recorder, np *networkingv1.NetworkPolicy, err error) {
	id := Trouble{types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, book.Rejected}
	e.SetPolicy(np)
	if err == nil {
		e.Over(id)
		return
	}
	e.Trouble(id, errors.Unwrap(err).Error())
}

// reject reports a policy as a loop does, and waits until that has been handled.
func reject(e *Recorder, name, uid, cidr string) {
	np, err := badPolicy(name, uid, cidr)
	tell(e, np, err)
	time.Sleep(troubleSpread)
	synctest.Wait()
}

// TestRejectedOnce: one event for each thing that is wrong with a policy, however many nodes report it, and however
// often.
func TestRejectedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, lines := newTestRecorder(t, w)
		reject(e, "db", "u1", "10.0.0.0/33")
		reject(e, "db", "u1", "10.0.0.0/33")
		if got := w.take(); got != "create" {
			t.Errorf("told twice: %s", got)
		}
		const want = `networking.k8s.io/v1 NetworkPolicy shop/db u1 NetworkPolicyRejected ×1: in force without the ` +
			`parts that do not compile: ` +
			`spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0/33": must be a CIDR, such as 10.9.8.0/24 ` +
			`or 2001:db8::/64`
		if got := w.texts()["db"]; len(got) != 1 || got[0] != want {
			t.Errorf("events\n%s\nwant\n%s", got, want)
		}
		other, _ := newTestRecorder(t, w)
		reject(other, "db", "u1", "10.0.0.0/33")
		if got := w.take(); got != "create" {
			t.Errorf("another node: %s", got)
		}
		reject(e, "db", "u1", "10.0.0.0/24") // mended
		reject(e, "db", "u1", "10.0.0.0/33")
		if got, n := w.take(), len(w.texts()["db"]); got != "create" || n != 1 {
			t.Errorf("the same again: %s, %d events", got, n)
		}
		reject(e, "db", "u1", "10.0.0/24")
		reject(e, "db", "u2", "10.0.0/24")
		if got, n := w.take(), len(w.texts()["db"]); got != "create create" || n != 3 {
			t.Errorf("another reason, another policy of that name: %s, %d events", got, n)
		}
		if got := lines.Take(); len(got) > 0 {
			t.Errorf("logged %s", got)
		}
	})
}

// TestRejectionsRepeat: what is still wrong is reported again when the server may have forgotten it, and nothing else
// is.
func TestRejectionsRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, _ := newTestRecorder(t, w)
		np, err := badPolicy("gone", "u0", "10.0.0.0/33")
		tell(e, np, err)
		reject(e, "db", "u1", "10.0.0.0/33")
		time.Sleep(troubleSpread)
		reject(e, "mended", "u2", "10.0.0.0/33")
		e.DeletePolicy(types.NamespacedName{Namespace: "shop", Name: "gone"})
		reject(e, "mended", "u2", "10.0.0.0/24")
		if got := w.take(); got != "create create create" {
			t.Errorf("requests %s", got)
		}
		w.expire()
		time.Sleep(troublesRepeat)
		if got, texts := w.take(), w.texts(); got != "create" || len(texts["db"]) != 1 {
			t.Errorf("requests %s, events %v", got, texts)
		}
		time.Sleep(troublesRepeat)
		if got := w.take(); got != "create" {
			t.Errorf("the event that is there is not touched: %s", got)
		}
	})
}

// TestRejectionMendedInTime: what is fixed before its turn comes is not reported.
func TestRejectionMendedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, _ := newTestRecorder(t, w)
		for i := range 2 * maxTroubles { // were they written, that would take hours
			np, err := badPolicy("db", "u1", fmt.Sprintf("10.0.0.0/%d", 33+i))
			tell(e, np, err)
			synctest.Wait()
		}
		time.Sleep(3 * troubleSpread)
		if got := w.take(); strings.Count(got, "create") > 1 || len(w.texts()["db"]) != 1 {
			t.Errorf("requests %q, events %v", got, w.texts())
		}
	})
}

// TestEventBounds: reporting never waits, whatever the server does, and what is kept is bounded.
func TestEventBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		w.hold = make(chan struct{})
		e, lines := newTestRecorder(t, w)
		for i := range 2 * maxTroubles {
			np, err := badPolicy(fmt.Sprint("policy-", i), fmt.Sprint(i), "10.0.0.0/33")
			tell(e, np, err)
		}
		time.Sleep(time.Hour) // attempts end by themselves
		if got := len(e.troubles) + len(e.policies.records); got > 2*maxTroubles {
			t.Errorf("%d kept", got)
		}
		if got := lines.Take(); len(got) == 0 || len(got) > 2 {
			t.Errorf("%d lines in an hour: %s", len(got), got)
		}
	})
}

// TestEventErrors: temporary errors are retried, permanent ones are logged once.
func TestEventErrors(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "x", errors.New("no rule"))
	terminating := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "x", errors.New("going"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	away, busy := errors.New("connection refused"), apierrors.NewTooManyRequests("later", 1)
	for _, row := range []struct {
		name     string
		fail     []error
		requests string
		logged   int
	}{
		{"away and back", []error{away, away}, "create create create", 0},
		{"busy", []error{busy}, "create create", 0},
		{"away", []error{away, away, away, away, away, away}, "create create create create", 1},
		{"forbidden", []error{forbidden}, "create", 1},
		{"namespace goes", []error{terminating}, "create", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWriter()
				w.fail = row.fail
				e, lines := newTestRecorder(t, w)
				reject(e, "db", "u1", "10.0.0.0/33")
				time.Sleep(4 * maxRetry)
				if got := w.take(); got != row.requests {
					t.Errorf("requests %s, want %s", got, row.requests)
				}
				w.fail = []error{forbidden}
				reject(e, "web", "u2", "10.0.0.0/33")
				if got := lines.Take(); len(got) != max(row.logged, 1) || !strings.Contains(got[0], "level=WARN") {
					t.Errorf("logged %s", got)
				}
			})
		})
	}
}

// TestUnaudited: an audited policy that the kernel partly refused gets its own event, with its own words.
func TestUnaudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, _ := newTestRecorder(t, w)
		np, _ := badPolicy("db", "u1", "10.0.0.0/33")
		e.SetPolicy(np)
		for _, kind := range []book.TroubleKind{book.Unaudited, book.Quarantined} {
			e.Trouble(Trouble{shop("db"), kind}, "ingress: refused")
		}
		time.Sleep(2 * troubleSpread)
		synctest.Wait()
		const policy = "networking.k8s.io/v1 NetworkPolicy shop/db u1 NetworkPolicy"
		want := map[string]string{
			policy + "Unaudited ×1: not audited; its rules were refused: ingress: refused":         "Warning",
			policy + "Quarantined ×1: quarantined; its pods are allowed nothing: ingress: refused": "Warning",
		}
		if got := w.types(); !maps.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		e.DeletePolicy(shop("db"))
		w.expire()
		time.Sleep(2 * troublesRepeat)
		if got := w.types(); len(got) > 0 {
			t.Errorf("told after the policy was deleted: %v", got)
		}
	})
}

// TestNoEvents: a folder of manifests has none.
func TestNoEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e *Recorder
		np, err := badPolicy("db", "u1", "10.0.0.0/33")
		tell(e, np, err)
		e.DeletePolicy(types.NamespacedName{})
		e.SetPod(&corev1.Pod{})
		e.DeletePod(types.NamespacedName{})
		e.Blocked(types.NamespacedName{}, Packets{Count: 1})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e.Run(ctx)
	})
}

// TestEventNames: an API server accepts the names and messages, whatever the objects are.
func TestEventNames(t *testing.T) {
	long := corev1.ObjectReference{Name: strings.Repeat("a.b-", 63) + "z", UID: "u"}
	if got := nameOf(long, "r", "x"); len(got) > 253 || strings.Contains(got, "..") || strings.Contains(got, "-.") {
		t.Errorf("name %s of %d bytes", got, len(got))
	}
	if nameOf(long, "r", "x") == nameOf(long, "r", "y") {
		t.Error("one name for two things")
	}
	for n := range 4 {
		got := message(strings.Repeat("x", n) + strings.Repeat("…", maxMessage))
		if len(got) > maxMessage || len(got) < maxMessage-5 || bytes.ContainsRune([]byte(got), '�') {
			t.Errorf("message of %d bytes", len(got))
		}
	}
}
