// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	"github.com/netpold/netpold/test/harness/logged"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// fakeReader returns packets that a test sends.
type fakeReader struct {
	batches chan []Packet
	fail    chan error
	lost    atomic.Uint64
}

func (f *fakeReader) Read(ctx context.Context, batch []Packet) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case err := <-f.fail:
		return 0, err
	case packets := <-f.batches:
		return copy(batch, packets), nil
	}
}

func (f *fakeReader) Lost() uint64 { return f.lost.Load() }

func (f *fakeReader) Close() error { return nil }

// dropTest is a log of drops in a cluster: shop/web-1 of another node, shop/db-0 of this one, isolated by shop/db-allow
// and shop/deny-all.
type dropTest struct {
	*Log
	*fakeReader
	logged.Lines
	chains map[policy.Direction]string

	mu    sync.Mutex
	state *translate.State

	opened atomic.Int64 // how often the log was opened
	taken  atomic.Bool  // it cannot be
}

func newDropTest(t *testing.T) *dropTest {
	t.Helper()
	d := &dropTest{
		fakeReader: &fakeReader{batches: make(chan []Packet), fail: make(chan error)},
		chains:     make(map[policy.Direction]string), state: translate.New("node", translate.Options{}),
	}
	d.Log = New(Config{Log: d.Lines.Log(), Told: func(Record) {}, View: func(look func(*translate.State)) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		look(d.state)
		return true
	}})
	d.edit(t, func(s *translate.State) {
		for i, name := range []string{"web-1", "db-0"} {
			s.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "shop", Name: name},
				Node:           []string{"other", "node"}[i], Running: true,
				IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
					netip.MustParseAddr(fmt.Sprintf("fd00::%d", i))},
				Labels: map[string]string{"app": name}, Owner: []string{"", "StatefulSet/db"}[i],
			})
		}
		s.SetNamespace("shop", nil)
		setPolicy(t, s, dbAllow(5432))
		setPolicy(t, s, &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deny-all"},
			Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}},
		})
	})
	for _, c := range d.state.Complete().Chains() {
		if kind, ok := frame.KindOf(c.Name); ok {
			d.chains[kind.Direction] = c.Name
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.Open(func() (Reader, error) {
		d.opened.Add(1)
		if d.taken.Load() {
			return nil, errors.New("another process reads the group")
		}
		return d.fakeReader, nil
	})
	go d.Run(ctx)
	t.Cleanup(func() { cancel(); synctest.Wait() })
	return d
}

// edit changes the cluster, and the table with it.
func (d *dropTest) edit(t *testing.T, change func(*translate.State)) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d.state)
	d.state.Complete().Take()
}

func setPolicy(t *testing.T, s *translate.State, np *networkingv1.NetworkPolicy) {
	t.Helper()
	if err := s.SetPolicy(np); err != nil {
		t.Error(err)
	}
}

// dbAllow allows shop/web-1 to reach shop/db-0 on a port.
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
func (d *dropTest) drop(src, dst string, port uint16) Packet {
	return Packet{
		Flow: policy.Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: nft.TCP,
			DstPort: port},
		Prefix: d.chains[policy.Ingress], SrcPort: 56648, Opens: true,
	}
}

func TestDropLine(t *testing.T) {
	const head = "TCP connection from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:6379) "
	const isolated = "ingress of shop/db-0 is isolated by shop/db-allow, shop/deny-all and no rule allows it"
	const policies = `policies="[shop/db-allow shop/deny-all]" count=1`
	rows := []struct {
		name   string
		edit   func(*dropTest, *Packet)
		change func(*testing.T, *translate.State) // between drop and line
		want   string
	}{
		{"tcp", nil, nil, `level=INFO msg="` + head + "blocked: " + isolated +
			` (nearest: shop/db-allow spec.ingress[0]: it allows TCP 5432, not TCP 6379)" direction=ingress ` +
			`protocol=tcp ` +
			`src=10.0.0.0 dst=10.0.0.1 srcPort=56648 dstPort=6379 srcPod=shop/web-1 dstPod=shop/db-0 ` +
			`dstOwner=StatefulSet/db ` + policies},
		{"not a connection", func(_ *dropTest, d *Packet) {
			d.Opens = false
		}, nil, `msg="TCP packet from shop/web-1 (10.0.0.0:56648)`},
		{"partial", func(_ *dropTest, d *Packet) { d.Partial = true }, nil,
			`msg="TCP packet of unknown port from shop/web-1 (10.0.0.0) to shop/db-0 (10.0.0.1) blocked: ` + isolated +
				`" direction=ingress protocol=tcp src=10.0.0.0 dst=10.0.0.1 srcPod`},
		{"external", func(_ *dropTest, d *Packet) { d.Src, d.DstPort = netip.MustParseAddr("192.0.2.1"), 5432 }, nil,
			`msg="TCP connection from 192.0.2.1:56648 (external) to shop/db-0 (10.0.0.1:5432) blocked: ` + isolated +
				` (nearest: shop/db-allow spec.ingress[0]: its peers do not include 192.0.2.1, which ` +
				`belongs to no pod)"`},
		{"node", func(_ *dropTest, d *Packet) {
			d.Src = netip.MustParseAddr("192.0.2.9")
		}, func(_ *testing.T, o *translate.State) {
			o.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "kube-system", Name: "proxy"}, Node: "far",
				HostNetwork: true,
				IPs:         []netip.Addr{netip.MustParseAddr("192.0.2.9")},
			})
		}, `from 192.0.2.9:56648 (node far) to shop/db-0 (10.0.0.1:6379) blocked: `},
		{"mapped", func(_ *dropTest, d *Packet) {
			d.Src, d.Dst = netip.MustParseAddr("::ffff:10.0.0.0"), netip.MustParseAddr("fd00::1")
		}, nil, `from [::ffff:10.0.0.0]:56648 (external) to shop/db-0 ([fd00::1]:6379) blocked: ` + isolated +
			` (nearest: shop/db-allow spec.ingress[0]: it allows neither TCP 6379 nor this peer)" direction`},
		{"icmp", func(_ *dropTest, d *Packet) { d.Proto, d.ICMPType, d.SrcPort, d.DstPort = nft.ICMP, 8, 0, 0 }, nil,
			`msg="ICMP echo request from shop/web-1 (10.0.0.0) to shop/db-0 (10.0.0.1) blocked: `},
		{"egress", func(t *dropTest, d *Packet) { d.Src, d.Dst, d.Prefix = d.Dst, d.Src, t.chains[policy.Egress] }, nil,
			`from shop/db-0 (10.0.0.1:56648) to shop/web-1 (10.0.0.0:6379) blocked: egress of shop/db-0 is isolated ` +
				`by shop/deny-all and ` +
				`no rule allows it (there are no rules)" direction=egress`},
		{"allowed now", nil, func(t *testing.T, o *translate.State) { setPolicy(t, o, dbAllow(6379)) },
			head + `was blocked: ingress of shop/db-0 was isolated by shop/db-allow, shop/deny-all; the current ` +
				`policies allow it"`},
		{"no policies now", nil, func(_ *testing.T, o *translate.State) {
			o.DeletePolicy(types.NamespacedName{Namespace: "shop", Name: "db-allow"})
			o.DeletePolicy(types.NamespacedName{Namespace: "shop", Name: "deny-all"})
		}, head + `was blocked: ingress of shop/db-0 was isolated by shop/db-allow, 1 more; the current ` +
			`policies allow it"`},
		{"pod gone", nil, func(_ *testing.T, o *translate.State) {
			o.DeletePod(types.NamespacedName{Namespace: "shop", Name: "db-0"})
		},
			`to 10.0.0.1:6379 was blocked: ingress of 10.0.0.1 was isolated by shop/db-allow, 1 more; the pod no ` +
				`longer has the address"`},
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
					d.edit(t, func(s *translate.State) { row.change(t, s) })
				}
				d.batches <- []Packet{drop}
				d.Expect(t, row.want)
			})
		})
	}
}

// TestDropWindows: the first packet is logged at once, the others at the end of the window, and ongoing ones once per
// window.
func TestDropWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		a, b := d.drop("10.0.0.0", "10.0.0.1", 6379), d.drop("10.0.0.0", "10.0.0.1", 80)
		d.batches <- []Packet{a, b, a, a}
		d.Expect(t, "not TCP 6379)", "not TCP 80)")
		time.Sleep(windowLength - time.Second)
		d.batches <- []Packet{a}
		d.Expect(t)
		time.Sleep(time.Second)
		d.Expect(t, `not TCP 6379); 3 more in 10s"`)
		d.batches <- []Packet{b, a}
		d.Expect(t, "not TCP 80)")
		time.Sleep(windowLength)
		d.Expect(t, `not TCP 6379); 1 more in 10s"`)
		time.Sleep(2 * windowLength)
		d.batches <- []Packet{a}
		d.Expect(t, "not TCP 6379)")
		d.batches <- []Packet{a}
		synctest.Wait()
		d.fail <- errors.New("broken")
		d.Expect(t, `not TCP 6379); 1 more in 0s"`, "drop logging stopped")
	})
}

// TestDropAsSeen: the line at the end of a window describes the time of its first packet, even if the pod is gone and
// the policies have changed.
func TestDropAsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		a := d.drop("10.0.0.0", "10.0.0.1", 6379)
		d.batches <- []Packet{a, a}
		d.Expect(t, "not TCP 6379)")
		d.edit(t, func(s *translate.State) {
			setPolicy(t, s, dbAllow(6379))
			s.DeletePod(types.NamespacedName{Namespace: "shop", Name: "web-1"})
		})
		time.Sleep(windowLength)
		d.Expect(t, `from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:6379) blocked: ingress of shop/db-0 is `+
			`isolated by shop/db-allow, shop/deny-all and no rule allows it `+
			`(nearest: shop/db-allow spec.ingress[0]: it allows TCP 5432, not TCP 6379); 1 more in 10s"`)
	})
}

// TestDropBounds: no flood makes more lines, or takes more memory, than the bounds allow.
func TestDropBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		const ports = 1500
		for port := range ports {
			drop := d.drop("10.0.0.0", "10.0.0.1", uint16(10000+port))
			d.batches <- []Packet{drop, drop}
		}
		d.batches <- []Packet{{Prefix: "somebody else's"}}
		d.lost.Store(7)
		d.batches <- nil
		if got := len(d.Take()); got != maxLines {
			t.Errorf("%d lines at once", got)
		}
		time.Sleep(windowLength)
		got := d.Take()
		if len(got) != maxLines+2 {
			t.Fatalf("%d lines at the end of the window", len(got))
		}
		if !strings.Contains(got[0], "; 2 in 10s") {
			t.Errorf("a drop whose first line had to wait: %s", got[0])
		}
		const suppressed = 2*(ports-maxKeys) + maxKeys - maxLines
		for i, want := range []string{
			fmt.Sprintf(`level=WARN msg="too many different drops; lines left out" lines=%d in=10s`, suppressed),
			`level=WARN msg="drop records lost: the kernel logs faster than netpold reads; enforcement unaffected" ` +
				`records=7 in=10s`,
		} {
			if line := got[maxLines+i]; !strings.Contains(line, want) {
				t.Errorf("line %swant %s", line, want)
			}
		}
		time.Sleep(windowLength)
		d.Expect(t)
		want := fmt.Sprintf(`
# HELP netpold_drop_lines_suppressed_total Drop log lines left out because there were too many different ones.
# TYPE netpold_drop_lines_suppressed_total counter
netpold_drop_lines_suppressed_total %d
# HELP netpold_drop_records_lost_total Denied packets that the kernel logged and netpold was too slow to read.
# TYPE netpold_drop_records_lost_total counter
netpold_drop_records_lost_total 7
# HELP netpold_drop_records_total Denied packets read from the kernel's log, which is rate-limited per isolation.
# TYPE netpold_drop_records_total counter
netpold_drop_records_total %d
`, suppressed, 2*ports+1)
		registry := prometheus.NewRegistry()
		registry.MustRegister(d.Collectors()...)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "netpold_drop_records_total",
			"netpold_drop_records_lost_total", "netpold_drop_lines_suppressed_total"); err != nil {
			t.Error(err)
		}
	})
}
