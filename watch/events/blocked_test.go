// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// podObject is a pod as an API source reports it.
func podObject(name, node, uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{NodeName: node},
	}
}

func shop(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

// newBlockedTest is newTestRecorder with a pod of this node and one of another.
func newBlockedTest(t *testing.T) (*Recorder, *fakeWriter) {
	t.Helper()
	w := newFakeWriter()
	e, _ := newTestRecorder(t, w)
	e.SetPod(podObject("db-0", "node", "u-db"))
	e.SetPod(podObject("web-1", "other", "u-web"))
	return e, w
}

// scan reports 50 kinds of packets to shop/db-0.
func scan(e *Recorder) {
	for port := range 50 {
		e.Blocked(shop("db-0"), Packets{Kind: fmt.Sprint(port), Text: "blocked", Count: 1})
	}
}

// TestBlocked: a pod gets one event, whose count then grows.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := newBlockedTest(t)
		for i, row := range []struct {
			text     string
			packets  int
			expired  bool
			requests string
			want     string
		}{
			{"from 1", 1, false, "create", "×1: from 1"},
			{"from 1", 2, false, "patch", "×3: from 1"},
			{"from 2", 1, true, "patch create", "×4: from 2"},
		} {
			if row.expired {
				w.expire()
			}
			e.Blocked(shop("db-0"), Packets{Kind: "kind", Text: row.text, Count: row.packets})
			want := "v1 Pod shop/db-0 u-db ConnectionBlocked " + row.want
			if got, texts := w.take(), w.texts()["db-0"]; got != row.requests || len(texts) != 1 || texts[0] != want {
				t.Errorf("row %d: requests %s, events %v, want %s", i, got, texts, want)
			}
			time.Sleep(podEvery)
		}
	})
}

// TestWouldBlock: what audited policies would block is an event of type Normal, beside what is blocked.
func TestWouldBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := newBlockedTest(t)
		e.Blocked(shop("db-0"), Packets{Kind: "audited", Text: "would be blocked", Count: 1, Audit: true})
		e.Blocked(shop("db-0"), Packets{Kind: "audited", Text: "would be blocked", Count: 2, Audit: true})
		e.Blocked(shop("web-1"), Packets{Kind: "audited", Text: "of another node", Count: 1, Audit: true})
		e.Blocked(shop("db-0"), Packets{Kind: "blocked", Text: "blocked", Count: 1})
		time.Sleep(podEvery)
		e.Blocked(shop("db-0"), Packets{Kind: "audited", Text: "would be blocked still", Count: 3, Audit: true})
		w.take()
		want := map[string]string{
			"v1 Pod shop/db-0 u-db ConnectionWouldBeBlocked ×6: would be blocked still": corev1.EventTypeNormal,
			"v1 Pod shop/db-0 u-db ConnectionBlocked ×1: blocked":                       corev1.EventTypeWarning,
		}
		if got := w.types(); !maps.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
	})
}

// TestBlockedWhom: only pods of this node get events.
func TestBlockedWhom(t *testing.T) {
	for name, edit := range map[string]func(*Recorder){
		"nobody is to be told": func(e *Recorder) { e.Drops = false },
		"deleted":              func(e *Recorder) { e.DeletePod(shop("db-0")) },
		"host network": func(e *Recorder) {
			e.DeletePod(shop("db-0"))
			p := podObject("db-0", "node", "u-db")
			p.Spec.HostNetwork = true
			e.SetPod(p)
		},
		"of another node": func(e *Recorder) {
			e.DeletePod(shop("db-0"))
			e.SetPod(podObject("db-0", "other", "u-db"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, w := newBlockedTest(t)
				edit(e)
				e.Blocked(shop("db-0"), Packets{Kind: "kind", Text: "text", Count: 1})
				if got := w.take(); got != "" {
					t.Errorf("requests %s", got)
				}
			})
		})
	}
}

// TestBlockedSameName: the next pod of a name has its own events.
func TestBlockedSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := newBlockedTest(t)
		e.Blocked(shop("db-0"), Packets{Kind: "kind", Text: "text", Count: 1})
		time.Sleep(podEvery)
		e.SetPod(podObject("db-0", "node", "u-db")) // is no news
		e.SetPod(podObject("db-0", "node", "u-next"))
		e.Blocked(shop("db-0"), Packets{Kind: "kind", Text: "text", Count: 1})
		if got, texts := w.take(), w.texts()["db-0"]; got != "create create" || len(texts) != 2 {
			t.Errorf("requests %s, events %v", got, texts)
		}
	})
}

// TestBlockedBounds: a scan of one pod makes no more writes than the bounds allow, and the rest is not kept.
func TestBlockedBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := newBlockedTest(t)
		scan(e)
		if got := strings.Count(w.take(), "create"); got != podBurst {
			t.Errorf("%d writes at once, want %d", got, podBurst)
		}
		pod := e.pods[shop("db-0")]
		if got := len(pod.kinds); got != maxPodKinds {
			t.Errorf("%d kinds, want %d", got, maxPodKinds)
		}
		for range 60 { // an hour of it
			time.Sleep(podEvery)
			scan(e)
		}
		if got := len(strings.Fields(w.take())); got != 60 {
			t.Errorf("%d writes in an hour, want 60", got)
		}
		time.Sleep(podKindIdle + time.Minute)
		e.Blocked(shop("db-0"), Packets{Kind: "another", Text: "text", Count: 1})
		if got, n := w.take(), len(pod.kinds); got != "create" || n != 1 {
			t.Errorf("after a rest: %s, %d kinds", got, n)
		}
	})
}

// TestBlockedPace: many pods at once are written at the pace of the node.
func TestBlockedPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, _ := newTestRecorder(t, w)
		const pods = 40
		for i := range pods {
			name := fmt.Sprint("pod-", i)
			e.SetPod(podObject(name, "node", name))
			e.Blocked(shop(name), Packets{Kind: "kind", Text: "text", Count: 1})
		}
		if got := strings.Count(w.take(), "create"); got != dropBurst {
			t.Errorf("%d writes at once, want %d", got, dropBurst)
		}
		time.Sleep(dropEvery*(pods-dropBurst) - time.Second)
		if got := strings.Count(w.take(), "create"); got != pods-dropBurst-1 {
			t.Errorf("%d writes later, want %d", got, pods-dropBurst-1)
		}
		time.Sleep(dropEvery)
		synctest.Wait()
		if got := len(w.texts()); got != pods {
			t.Errorf("%d pods were told, want %d", got, pods)
		}
	})
}
