// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/drops"
	"github.com/netpold/netpold/watch/events"
)

// fakeReader returns packets that a test sends.
type fakeReader struct {
	packets chan drops.Packet
	fail    chan error
}

func (f *fakeReader) Read(ctx context.Context, batch []drops.Packet) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case err := <-f.fail:
		return 0, err
	case batch[0] = <-f.packets:
		return 1, nil
	}
}

func (f *fakeReader) Lost() uint64 { return 0 }

func (f *fakeReader) Close() error { return nil }

// fakeWriter keeps events by name.
type fakeWriter struct {
	mu     sync.Mutex
	events map[string]*corev1.Event
}

func (f *fakeWriter) Create(_ context.Context, e *corev1.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events[e.Name] = e
	return nil
}

func (f *fakeWriter) Patch(context.Context, types.NamespacedName, []byte) error { return nil }

// texts returns the events of an object, as "uid reason: message".
func (f *fakeWriter) texts(object string) (all []string) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.InvolvedObject.Name == object {
			all = append(all, fmt.Sprintf("%s %s: %s", e.InvolvedObject.UID, e.Reason, e.Message))
		}
	}
	return all
}

// withEvents lets the loop write events until the test ends.
func withEvents(t *testing.T, l *Loop) *fakeWriter {
	t.Helper()
	w := &fakeWriter{events: make(map[string]*corev1.Event)}
	l.config.Events = events.New(events.Config{Writer: w, Node: "node", Drops: true, Log: l.config.Log})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); synctest.Wait() })
	go l.config.Events.Run(ctx)
	return w
}

// TestDropToEvent: a denied packet becomes one event, of the isolated pod only, in the words of the log line.
func TestDropToEvent(t *testing.T) {
	addr := netip.MustParseAddr
	for _, row := range []struct {
		name     string
		src, dst string
		chain    policy.Direction
		want     string
	}{
		{"ingress", "10.0.0.9", "10.0.0.1", policy.Ingress,
			"[u ConnectionBlocked: TCP connection from 10.0.0.9:9 (external) to ns/a (10.0.0.1:80) blocked: " +
				"ingress of ns/a is isolated by ns/deny and no rule allows it (there are no rules)]"},
		{"egress", "10.0.0.1", "10.0.0.9", policy.Egress,
			"[u ConnectionBlocked: TCP connection from ns/a (10.0.0.1:9) to 10.0.0.9:80 (external) blocked: " +
				"egress of ns/a is isolated by ns/deny and no rule allows it (there are no rules)]"},
		{"nobody's address", "10.0.0.1", "10.0.0.9", policy.Ingress, "[]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := newTestLoop(t, kernelFunc(nil))
				w := withEvents(t, l)
				l.config.Events.SetPod(&corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "u"},
					Spec:       corev1.PodSpec{NodeName: "node"},
				})
				l.Update(func(o Objects) {
					o.SetPolicy(&networkingv1.NetworkPolicy{
						ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "deny"},
						Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress",
							"Egress"}},
					})
				})
				setPodAt(l, "a", "10.0.0.1")
				l.Synced()
				synctest.Wait()
				p := drops.Packet{
					Flow:    policy.Flow{Src: addr(row.src), Dst: addr(row.dst), Proto: nft.TCP, DstPort: 80},
					SrcPort: 9, Opens: true,
				}
				for _, c := range l.state.Complete().Chains() {
					if k, ok := frame.KindOf(c.Name); ok && k.Direction == row.chain {
						p.Prefix = c.Name
					}
				}
				f := &fakeReader{packets: make(chan drops.Packet)}
				l.Drops().Open(func() (drops.Reader, error) { return f, nil })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go l.Drops().Run(ctx)
				f.packets <- p
				if got := fmt.Sprint(w.texts("a")); got != row.want {
					t.Errorf("events %s, want %s", got, row.want)
				}
			})
		})
	}
}

// TestDropLogUp: report and metric say whether the log of drops is read.
func TestDropLogUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, registry := newTestLoop(t, kernelFunc(nil))
		if r := l.Report(); r.DropLog != nil {
			t.Errorf("without a log: %+v", r.DropLog)
		}
		f := &fakeReader{fail: make(chan error)}
		l.Drops().Open(func() (drops.Reader, error) { return f, nil })
		if up, r := gathered(t, registry, "netpold_drop_log_up"), l.Report().DropLog; up != 1 || r == nil ||
			r.OffSince != nil {
			t.Errorf("while it is read: %v, %+v", up, r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.Drops().Run(ctx)
		f.fail <- errors.New("broken")
		synctest.Wait()
		if up, r := gathered(t, registry, "netpold_drop_log_up"), l.Report().DropLog; up != 0 || r == nil ||
			r.OffSince == nil || r.Error == "" {
			t.Errorf("while it is off: %v, %+v", up, r)
		}
	})
}
