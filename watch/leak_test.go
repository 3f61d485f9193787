// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// TestNothingLeaks sends 10,000 events to a loop on the real kernel, about pods, policies and namespaces that are
// always new and go again. Memory, goroutines and table must be as before.
func TestNothingLeaks(t *testing.T) {
	netns.Enter(t)
	goroutines := runtime.NumGoroutine()
	conn, err := kernel.Open(kernel.Config{})
	netns.Require(t, err)
	c := &churn{T: t, loop: newKernelLoop(t, conn)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.loop.Run(ctx) }()
	c.loop.Synced()
	c.events(20000) // then what is allocated once is, and maps are as large as they get
	before := c.measure()
	c.events(10000)
	after := c.measure()
	t.Logf("%d transactions; after 20,000 events: %s; after 10,000 more: %s",
		c.loop.Status().Transactions, before, after)
	// 128 KiB are 52 bytes for each of 2,500 pods, policies or namespaces: less than an entry with a name in any map. A
	// map that grows once more, late, was seen to take 60 KB; over 100,000 events the heap grew by 5 KB in the last
	// half.
	if after.heap > before.heap+128<<10 {
		t.Errorf("10,000 events leave %d bytes on the heap", after.heap-before.heap)
	}
	if after.goroutines != before.goroutines || after.objects != before.objects {
		t.Errorf("goroutines and objects of the table before: %s, after: %s", before, after)
	}
	cancel()
	<-done
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	c.until("the goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// newKernelLoop returns a loop that is not started yet.
func newKernelLoop(t *testing.T, k Kernel) *Loop {
	t.Helper()
	return NewLoop(translate.New("node", translate.Options{LogGroup: 86}), LoopConfig{
		Kernel: k, Log: slog.New(slog.DiscardHandler),
	})
}

// churn makes events, each of which undoes an earlier one.
type churn struct {
	*testing.T
	loop *Loop
	next int
}

// live is how many objects of a kind exist at a time.
const live = 60

// events makes n events. It often waits until the kernel has them, so that there are many transactions.
func (c *churn) events(n int) {
	var sink Sink = c.loop
	for range n / 4 {
		sink.Update(func(o Objects) { o.SetPod(churnPod(c.next)) })
		sink.Update(func(o Objects) { o.SetPolicy(churnPolicy(c.next)) })
		sink.Update(func(o Objects) {
			o.DeletePod(churnPod(c.next - live).NamespacedName)
			o.SetNamespace(churnNamespace(c.next), map[string]string{"generation": fmt.Sprint(c.next)})
		})
		sink.Update(func(o Objects) {
			o.DeletePolicy(types.NamespacedName{Namespace: churnNamespace(c.next - live),
				Name: churnName(c.next - live)})
			o.DeleteNamespace(churnNamespace(c.next - live))
		})
		if c.next++; c.next%5 == 0 {
			c.until("the kernel has all events", c.rests)
		}
	}
	c.until("the kernel has all events", c.rests)
}

// rests says whether the kernel has all events.
func (c *churn) rests() bool {
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	return c.loop.inSync() && c.loop.oldest.IsZero()
}

func (c *churn) until(what string, good func() bool) {
	c.Helper()
	for deadline := time.Now().Add(time.Minute); !good(); runtime.Gosched() {
		if time.Now().After(deadline) {
			c.Fatalf("%s: not so after a minute", what)
		}
	}
}

// footprint is what may leak.
type footprint struct{ heap, goroutines, objects int }

func (f footprint) String() string {
	return fmt.Sprintf("%d bytes of heap, %d goroutines, %d lines of table", f.heap, f.goroutines, f.objects)
}

// measure returns what is there when nothing happens.
func (c *churn) measure() footprint {
	c.Helper()
	out, err := exec.Command("nft", "-s", "list", "table", "inet", frame.TableName).Output()
	netns.Require(c, err)
	lines := strings.Count(string(out), "\n")
	var stats runtime.MemStats
	for range 3 { // pools are emptied in two steps
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return footprint{int(stats.HeapAlloc), runtime.NumGoroutine(), lines}
}

// Names of the i-th objects are as long for each.
func churnName(i int) string      { return fmt.Sprintf("object-%08d", i) }
func churnNamespace(i int) string { return fmt.Sprintf("namespace-%08d", i) }

// churnPod is a pod of a new kind.
func churnPod(i int) policy.Pod {
	k := i + live // not negative
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: churnNamespace(i), Name: churnName(i)},
		Node:           "node", Running: true,
		Labels: map[string]string{"app": churnName(i)},
		IPs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)}),
			netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(k >> 16), 14: byte(k >> 8), 15: byte(k)}),
		},
	}
}

// churnPolicy isolates that pod, alone and with others; some policies have a part that does not compile.
func churnPolicy(i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: churnNamespace(i), Name: churnName(i)}}
	cidr := fmt.Sprintf("192.0.2.%d/32", (i+live)%256)
	if i%3 == 0 {
		cidr += "0" // an error
	}
	port := intstr.FromInt(1 + (i+live)%60000)
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{
		{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}}},
		{
			From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"generation": fmt.Sprint(i - 1)},
			}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
		},
	}
	return np
}
