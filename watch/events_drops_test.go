// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// newEventDropTest is newDropTest with events. The pods are known as an API source tells them.
func newEventDropTest(t *testing.T) (*dropTest, *fakeWriter) {
	t.Helper()
	d, w := newDropTest(t), newFakeWriter()
	d.Events, _ = newTestEvents(t, w)
	d.Events.SetPod(eventPodObject("db-0", "node", "u-db"))
	d.Events.SetPod(eventPodObject("web-1", "other", "u-web"))
	return d, w
}

func eventPodObject(name, node, uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{NodeName: node},
	}
}

// TestBlocked: the isolated pod is told what the log says, once, and then how often.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w := newEventDropTest(t)
		a := d.drop("10.0.0.0", "10.0.0.1", 6379)
		d.batches <- []Drop{a, a, a}
		if got := w.take(); got != "create" {
			t.Fatalf("requests %s", got)
		}
		const want = "v1 Pod shop/db-0 u-db ConnectionBlocked ×1: TCP connection from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:6379) " +
			"blocked: ingress of shop/db-0 is isolated by shop/db-allow, shop/deny-all and no rule allows it " +
			"(nearest: shop/db-allow spec.ingress[0]: it allows TCP 5432, not TCP 6379)"
		if got := w.texts(); len(got) != 1 || len(got["db-0"]) != 1 || got["db-0"][0] != want {
			t.Errorf("events\n%v\nwant\n%s", got, want)
		}
		time.Sleep(dropWindow)
		if got, texts := w.take(), w.texts()["db-0"]; got != "patch" || len(texts) != 1 || texts[0] != strings.Replace(want, "×1", "×3", 1) {
			t.Errorf("requests %s, events %v", got, texts)
		}
		w.expire()
		a.SrcPort++
		d.batches <- []Drop{a}
		time.Sleep(dropWindow)
		want2 := strings.NewReplacer("×1", "×4", "56648", "56649").Replace(want)
		if got, texts := w.take(), w.texts()["db-0"]; got != "patch create" || len(texts) != 1 || texts[0] != want2 {
			t.Errorf("after it expired: requests %s, events %v", got, texts)
		}
	})
}

// TestBlockedWhom: only pods of this node are told, and only what happened to them.
func TestBlockedWhom(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*dropTest, *Drop)
		want int
	}{
		{"ingress", nil, 1},
		{"egress", func(d *dropTest, p *Drop) { p.Src, p.Dst, p.Prefix = p.Dst, p.Src, d.chains[policy.Egress] }, 1},
		{"from outside", func(_ *dropTest, p *Drop) { p.Src = p.Src.Prev() }, 1},
		{"not with --drop-events=false", func(d *dropTest, _ *Drop) { d.Events.Drops = false }, 0},
		{"deleted", func(d *dropTest, _ *Drop) { d.Events.DeletePod(types.NamespacedName{Namespace: "shop", Name: "db-0"}) }, 0},
		{"nobody's address", func(_ *dropTest, p *Drop) { p.Dst = p.Dst.Next() }, 0},
		{"host network", func(d *dropTest, _ *Drop) {
			d.Events.DeletePod(types.NamespacedName{Namespace: "shop", Name: "db-0"})
			p := eventPodObject("db-0", "node", "u-db")
			p.Spec.HostNetwork = true
			d.Events.SetPod(p)
		}, 0},
		{"of another node", func(d *dropTest, _ *Drop) {
			d.Events.DeletePod(types.NamespacedName{Namespace: "shop", Name: "db-0"})
			d.Events.SetPod(eventPodObject("db-0", "other", "u-db"))
		}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, w := newEventDropTest(t)
				drop := d.drop("10.0.0.0", "10.0.0.1", 6379)
				if row.edit != nil {
					row.edit(d, &drop)
				}
				d.batches <- []Drop{drop}
				w.take()
				if got := w.texts(); len(got) != row.want || len(got["db-0"]) != row.want {
					t.Errorf("events %v", got)
				}
			})
		})
	}
}

// TestBlockedSameName: the next pod of a name has events of its own.
func TestBlockedSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w := newEventDropTest(t)
		a := d.drop("10.0.0.0", "10.0.0.1", 6379)
		d.batches <- []Drop{a}
		time.Sleep(2 * dropWindow)
		d.Events.SetPod(eventPodObject("db-0", "node", "u-db")) // is no news
		d.Events.SetPod(eventPodObject("db-0", "node", "u-next"))
		d.batches <- []Drop{a}
		if got, texts := w.take(), w.texts()["db-0"]; got != "create create" || len(texts) != 2 {
			t.Errorf("requests %s, events %v", got, texts)
		}
	})
}

// TestBlockedBounds: a scan of one pod, and of many, makes no more writes than the bounds, and nothing is kept of the rest.
func TestBlockedBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w := newEventDropTest(t)
		for port := range uint16(50) {
			d.batches <- []Drop{d.drop("10.0.0.0", "10.0.0.1", 1000+port)}
		}
		if got := strings.Count(w.take(), "create"); got != podBurst {
			t.Errorf("%d writes at once, want %d", got, podBurst)
		}
		pod := d.Events.pods[types.NamespacedName{Namespace: "shop", Name: "db-0"}]
		if got := len(pod.kinds); got != maxPodKinds {
			t.Errorf("%d kinds, want %d", got, maxPodKinds)
		}
		for range 60 { // an hour of it
			time.Sleep(podEvery)
			for port := range uint16(50) {
				d.batches <- []Drop{d.drop("10.0.0.0", "10.0.0.1", 1000+port)}
			}
		}
		if got := len(strings.Fields(w.take())); got != 60 {
			t.Errorf("%d writes in an hour, want 60", got)
		}
		time.Sleep(podKindIdle + time.Minute)
		d.batches <- []Drop{d.drop("10.0.0.0", "10.0.0.1", 5000)}
		if got, n := w.take(), len(pod.kinds); got != "create" || n != 1 {
			t.Errorf("after a rest: %s, %d kinds", got, n)
		}
	})
}

// TestBlockedPace: many pods at once are written at the pace of the node.
func TestBlockedPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWriter()
		e, _ := newTestEvents(t, w)
		const pods = 40
		for i := range pods {
			name := "pod-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			e.SetPod(eventPodObject(name, "node", name))
			entry := &dropEntry{drop: Drop{Proto: nft.TCP}, count: 1}
			entry.who.isolation.Direction = policy.Ingress
			entry.who.dst.pod.NamespacedName, entry.who.dst.found = types.NamespacedName{Namespace: "shop", Name: name}, true
			e.blocked(entry, "text")
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
