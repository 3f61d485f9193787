// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// fakeDrops are drops that a test sends.
type fakeDrops struct {
	batches chan []Drop
	fail    chan error
	lost    atomic.Uint64
}

func (f *fakeDrops) Read(ctx context.Context, batch []Drop) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case err := <-f.fail:
		return 0, err
	case drops := <-f.batches:
		return copy(batch, drops), nil
	}
}

func (f *fakeDrops) Lost() uint64 { return f.lost.Load() }

func (f *fakeDrops) Close() error { return nil }

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// take returns the lines since the last time.
func (l *lines) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Collect(strings.Lines(l.String()))
	l.Reset()
	return all
}

// dropTest is a loop that follows drops: shop/web-1 of another node, shop/db-0 of this one, isolated by shop/db-allow and shop/deny-all.
type dropTest struct {
	*Loop
	*fakeDrops
	lines    *lines
	registry *prometheus.Registry
	chains   map[policy.Direction]string

	opened atomic.Int64 // how often the log was opened
	taken  atomic.Bool  // it cannot be
}

func newDropTest(t *testing.T) *dropTest {
	t.Helper()
	d := &dropTest{
		fakeDrops: &fakeDrops{batches: make(chan []Drop), fail: make(chan error)}, lines: new(lines),
		chains: make(map[policy.Direction]string),
	}
	d.registry = prometheus.NewRegistry()
	metrics, err := NewMetrics(d.registry)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(d.lines, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	d.Loop = NewLoop(LoopConfig{
		Kernel: kernelFunc(func(context.Context, *nft.Transaction) error { return nil }), State: translate.New("node", translate.Options{}),
		Metrics: metrics, Log: log, Node: "node", Source: "test",
	})
	d.Update(func(o Objects) {
		for i, name := range []string{"web-1", "db-0"} {
			o.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}, Node: []string{"other", "node"}[i], Running: true,
				IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00::%d", i))},
				Labels: map[string]string{"app": name}, Owner: []string{"", "StatefulSet/db"}[i],
			})
		}
		o.SetNamespace("shop", nil)
		o.SetPolicy(dbAllow(5432))
		o.SetPolicy(&networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deny-all"},
			Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}},
		})
	})
	d.Synced()
	d.mustCommit(t)
	for _, c := range d.State.Table().Chains() {
		if direction, ok := translate.DirectionOf(c.Name); ok {
			d.chains[direction] = c.Name
		}
	}
	d.lines.take()
	ctx, cancel := context.WithCancel(t.Context())
	follower := d.OpenDrops(func() (Drops, error) {
		d.opened.Add(1)
		if d.taken.Load() {
			return nil, errors.New("another process reads the group")
		}
		return d.fakeDrops, nil
	})
	go follower.Run(ctx)
	t.Cleanup(func() { cancel(); synctest.Wait() })
	return d
}

func (d *dropTest) mustCommit(t *testing.T) {
	t.Helper()
	if err := d.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// dbAllow lets shop/web-1 reach shop/db-0 on a port.
func dbAllow(port int32) *networkingv1.NetworkPolicy {
	number := intstr.FromInt32(port)
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-allow"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "db-0"}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				Ports: []networkingv1.NetworkPolicyPort{{Port: &number}},
				From: []networkingv1.NetworkPolicyPeer{{
					PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web-1"}},
				}},
			}},
		},
	}
}

// drop returns a SYN that was dropped on ingress.
func (d *dropTest) drop(src, dst string, port uint16) Drop {
	return Drop{
		Prefix: d.chains[policy.Ingress], Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
		Proto: nft.TCP, SrcPort: 56648, DstPort: port, Opens: true,
	}
}

// expect compares the lines.
func (d *dropTest) expect(t *testing.T, want ...string) {
	t.Helper()
	got := d.lines.take()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("no line with\n%s", want[i])
		case i >= len(want):
			t.Errorf("line\n%s", got[i])
		case !strings.Contains(got[i], want[i]):
			t.Errorf("line\n%swant\n%s", got[i], want[i])
		}
	}
}

func TestDropLine(t *testing.T) {
	const head = "TCP connection from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:6379) "
	const isolated = "ingress of shop/db-0 is isolated by shop/db-allow, shop/deny-all and no rule allows it"
	const policies = `policies="[shop/db-allow shop/deny-all]" count=1`
	rows := []struct {
		name   string
		edit   func(*dropTest, *Drop)
		change func(Objects) // between drop and line
		want   string
	}{
		{"tcp", nil, nil, `level=INFO msg="` + head + "blocked: " + isolated +
			` (nearest: shop/db-allow spec.ingress[0]: it allows TCP 5432, not TCP 6379)" direction=ingress protocol=tcp ` +
			`src=10.0.0.0 dst=10.0.0.1 srcPort=56648 dstPort=6379 srcPod=shop/web-1 dstPod=shop/db-0 dstOwner=StatefulSet/db ` + policies},
		{"not a connection", func(_ *dropTest, d *Drop) { d.Opens = false }, nil, `msg="TCP packet from shop/web-1 (10.0.0.0:56648)`},
		{"partial", func(_ *dropTest, d *Drop) { d.Partial = true }, nil,
			`msg="TCP packet of unknown port from shop/web-1 (10.0.0.0) to shop/db-0 (10.0.0.1) blocked: ` + isolated +
				`" direction=ingress protocol=tcp src=10.0.0.0 dst=10.0.0.1 srcPod`},
		{"external", func(_ *dropTest, d *Drop) { d.Src, d.DstPort = netip.MustParseAddr("192.0.2.1"), 5432 }, nil,
			`msg="TCP connection from 192.0.2.1:56648 (external) to shop/db-0 (10.0.0.1:5432) blocked: ` + isolated +
				` (nearest: shop/db-allow spec.ingress[0]: its peers do not include 192.0.2.1, which belongs to no pod)"`},
		{"node", func(_ *dropTest, d *Drop) { d.Src = netip.MustParseAddr("192.0.2.9") }, func(o Objects) {
			o.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "kube-system", Name: "proxy"}, Node: "far", HostNetwork: true,
				IPs: []netip.Addr{netip.MustParseAddr("192.0.2.9")},
			})
		}, `from 192.0.2.9:56648 (node far) to shop/db-0 (10.0.0.1:6379) blocked: `},
		{"mapped", func(_ *dropTest, d *Drop) {
			d.Src, d.Dst = netip.MustParseAddr("::ffff:10.0.0.0"), netip.MustParseAddr("fd00::1")
		}, nil, `from [::ffff:10.0.0.0]:56648 (external) to shop/db-0 ([fd00::1]:6379) blocked: ` + isolated +
			` (nearest: shop/db-allow spec.ingress[0]: it allows neither TCP 6379 nor this peer)" direction`},
		{"icmp", func(_ *dropTest, d *Drop) { d.Proto, d.ICMPType, d.SrcPort, d.DstPort = nft.ICMP, 8, 0, 0 }, nil,
			`msg="ICMP echo request from shop/web-1 (10.0.0.0) to shop/db-0 (10.0.0.1) blocked: `},
		{"egress", func(t *dropTest, d *Drop) { d.Src, d.Dst, d.Prefix = d.Dst, d.Src, t.chains[policy.Egress] }, nil,
			`from shop/db-0 (10.0.0.1:56648) to shop/web-1 (10.0.0.0:6379) blocked: egress of shop/db-0 is isolated by shop/deny-all and ` +
				`no rule allows it (there are no rules)" direction=egress`},
		{"allowed now", nil, func(o Objects) { o.SetPolicy(dbAllow(6379)) },
			head + `was blocked: ingress of shop/db-0 was isolated by shop/db-allow, shop/deny-all; the policies of now allow it"`},
		{"no policies now", nil, func(o Objects) {
			o.DeletePolicy(types.NamespacedName{Namespace: "shop", Name: "db-allow"})
			o.DeletePolicy(types.NamespacedName{Namespace: "shop", Name: "deny-all"})
		}, head + `was blocked: ingress of shop/db-0 was isolated by shop/db-allow, 1 more; the policies of now allow it"`},
		{"pod gone", nil, func(o Objects) { o.DeletePod(types.NamespacedName{Namespace: "shop", Name: "db-0"}) },
			`to 10.0.0.1:6379 was blocked: ingress of 10.0.0.1 was isolated by shop/db-allow, 1 more; the pod does not have the address any more"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDropTest(t)
				drop := d.drop("10.0.0.0", "10.0.0.1", 6379)
				if row.edit != nil {
					row.edit(d, &drop)
				}
				if row.change != nil {
					d.Update(row.change)
					d.mustCommit(t)
				}
				d.batches <- []Drop{drop}
				d.expect(t, row.want)
			})
		})
	}
}

// TestDropWindows: the first at once, the others at the end of the window, and what goes on once per window.
func TestDropWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		a, b := d.drop("10.0.0.0", "10.0.0.1", 6379), d.drop("10.0.0.0", "10.0.0.1", 80)
		d.batches <- []Drop{a, b, a, a}
		d.expect(t, "not TCP 6379)", "not TCP 80)")
		time.Sleep(dropWindow - time.Second)
		d.batches <- []Drop{a}
		d.expect(t)
		time.Sleep(time.Second)
		d.expect(t, `not TCP 6379); 3 more in 10s"`)
		d.batches <- []Drop{b, a}
		d.expect(t, "not TCP 80)")
		time.Sleep(dropWindow)
		d.expect(t, `not TCP 6379); 1 more in 10s"`)
		time.Sleep(2 * dropWindow)
		d.batches <- []Drop{a}
		d.expect(t, "not TCP 6379)")
		d.batches <- []Drop{a}
		synctest.Wait()
		d.fail <- errors.New("broken")
		d.expect(t, `not TCP 6379); 1 more in 0s"`, "drop logging is off")
	})
}

// TestDropBounds: no flood makes more lines, or more memory, than the bounds.
func TestDropBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		const ports = 1500
		for port := range ports {
			drop := d.drop("10.0.0.0", "10.0.0.1", uint16(10000+port))
			d.batches <- []Drop{drop, drop}
		}
		d.batches <- []Drop{{Prefix: "somebody else's"}}
		d.lost.Store(7)
		d.batches <- nil
		if got := len(d.lines.take()); got != maxDropLines {
			t.Errorf("%d lines at once", got)
		}
		time.Sleep(dropWindow)
		got := d.lines.take()
		if len(got) != maxDropLines+2 {
			t.Fatalf("%d lines at the end of the window", len(got))
		}
		if !strings.Contains(got[0], "; 2 in 10s") {
			t.Errorf("a drop whose first line had to wait: %s", got[0])
		}
		const suppressed = 2*(ports-maxDropKeys) + maxDropKeys - maxDropLines
		for i, want := range []string{
			fmt.Sprintf(`level=WARN msg="too many different drops, lines were suppressed" lines=%d in=10s`, suppressed),
			`level=WARN msg="the kernel logged drops faster than they were read, records were lost" records=7 in=10s`,
		} {
			if line := got[maxDropLines+i]; !strings.Contains(line, want) {
				t.Errorf("line %swant %s", line, want)
			}
		}
		time.Sleep(dropWindow)
		d.expect(t)
		want := fmt.Sprintf(`
# HELP netpold_drop_lines_suppressed_total Log lines about denied packets that were not written because there were too many different ones.
# TYPE netpold_drop_lines_suppressed_total counter
netpold_drop_lines_suppressed_total %d
# HELP netpold_drop_records_lost_total Denied packets that the kernel logged and netpold was too slow to read.
# TYPE netpold_drop_records_lost_total counter
netpold_drop_records_lost_total 7
# HELP netpold_drop_records_total Denied packets that the kernel logged and netpold read; the kernel logs a limited number per second and isolation.
# TYPE netpold_drop_records_total counter
netpold_drop_records_total %d
`, suppressed, 2*ports+1)
		if err := testutil.GatherAndCompare(d.registry, strings.NewReader(want), "netpold_drop_records_total",
			"netpold_drop_records_lost_total", "netpold_drop_lines_suppressed_total"); err != nil {
			t.Error(err)
		}
	})
}
