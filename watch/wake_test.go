// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"log/slog"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/translate"
)

// woken says whether an update has woken the loop, and lets it sleep again.
func (l *Loop) woken() bool {
	select {
	case <-l.wake:
		return true
	default:
		return false
	}
}

// TestWakesForNewsOnly: an update without news does not wake the loop.
func TestWakesForNewsOnly(t *testing.T) {
	l := NewLoop(translate.New("node", translate.Options{}), LoopConfig{Log: slog.New(slog.DiscardHandler)})
	l.Synced()
	objects := map[string]func(){
		"pod":       func() { setPodAt(l, "a", "10.0.0.1") },
		"namespace": func() { l.Update(func(o Objects) { o.SetNamespace("ns", map[string]string{"team": "a"}) }) },
		"policy": func() {
			l.Update(func(o Objects) {
				o.SetPolicy(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "deny"}})
			})
		},
	}
	for _, set := range objects {
		set()
	}
	l.pending()
	l.woken()
	for kind, set := range objects {
		if set(); l.woken() || !l.oldest.IsZero() {
			t.Errorf("the same %s again wakes the loop", kind)
		}
	}
	if setPodAt(l, "a", "10.0.0.2"); !l.woken() {
		t.Error("a new address does not wake the loop")
	}
}
