// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// observed is a node that counts flows: web and db are its pods, and db accepts only port 80, of any protocol with
// ports; far is a pod of another node, and out is outside.
type observed struct {
	*testing.T
	*prober.Prober
	conn    *kernel.Conn
	state   *translate.State
	options translate.Options
}

// ends are the addresses of an end of a flow, in both families.
func ends(name string) [2]netip.Addr {
	n := map[string]int{"web": 1, "db": 2, "far": 3, "out": 4}[name]
	host := map[string]string{"far": "10.0.2.%d fd00:2::%d", "out": "192.0.2.%d 2001:db8::%d"}[name]
	if host == "" {
		host = "10.0.1.%d fd00:1::%d"
	}
	v4, v6, _ := strings.Cut(fmt.Sprintf(host, n, n), " ")
	return [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

func newObserved(t *testing.T, options translate.Options) *observed {
	t.Helper()
	o := &observed{T: t, Prober: prober.New(t), conn: open(t), options: options, state: translate.New(node, options)}
	for name, on := range map[string]string{"web": node, "db": node, "far": "other"} {
		all := ends(name)
		o.state.SetPod(policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}, Node: on,
			IPs: all[:], Labels: map[string]string{"app": name}, Running: true})
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": "db"}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	port := intstr.FromInt32(80)
	for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
		np.Spec.Ingress[0].Ports = append(np.Spec.Ingress[0].Ports,
			networkingv1.NetworkPolicyPort{Protocol: &proto, Port: &port})
	}
	if err := o.state.SetPolicy(np); err != nil {
		t.Fatal(err)
	}
	o.apply()
	return o
}

// apply commits the state's table.
func (o *observed) apply() {
	o.Helper()
	if _, err := o.conn.Apply(o.Context(), o.state.Complete().Take()); err != nil {
		o.Fatal(err)
	}
}

// flow is a probe by the names of its ends.
func flow(f nft.Family, from, to, service string) prober.Probe {
	i := 0
	if f == nft.IPv6 {
		i = 1
	}
	q := prober.Probe{Src: ends(from)[i], Dst: ends(to)[i]}
	proto := ""
	_, _ = fmt.Sscanf(strings.Replace(service, "/", " ", 1), "%s %d", &proto, &q.DstPort)
	q.Proto = map[string]uint8{"tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP, "icmp": nft.ICMP}[proto]
	if q.Proto == nft.ICMP && f == nft.IPv6 {
		q.Proto = nft.ICMPv6
	}
	return q
}

// probe sends packets that open connections.
func (o *observed) probe(probes ...prober.Probe) []bool {
	o.Helper()
	allowed, err := o.Prober.Run(probes)
	if err != nil {
		o.Fatal(err)
	}
	return allowed
}

// counts returns the kernel's counts, by kind and flow, such as "10.0.1.1 > 10.0.1.2 tcp/80".
func (o *observed) counts() map[observe.Kind]map[string]uint64 {
	o.Helper()
	counts := make(map[observe.Kind]map[string]uint64)
	for _, s := range observe.Sets(o.options.Observe) {
		elements, err := o.conn.Elements(o.Context(), frame.TableName, s.Name, s.Type)
		if err != nil {
			o.Fatal(err)
		}
		for _, e := range elements {
			if counts[s.Kind] == nil {
				counts[s.Kind] = make(map[string]uint64)
			}
			what := "all"
			if s.Kind != observe.Lost {
				what = fmt.Sprintf("%s > %s %s/%d", netip.AddrFrom16(e.Addr).Unmap(), netip.AddrFrom16(e.To).Unmap(),
					nft.ProtocolName(e.Proto), e.Port)
				if e.Left == 0 || e.Left > observe.Timeout*1000 {
					o.Errorf("%s has %d ms left", what, e.Left)
				}
			}
			counts[s.Kind][what] += e.Packets
		}
	}
	return counts
}

// expect compares the kernel's counts with what was sent.
func (o *observed) expect(kind observe.Kind, want map[string]uint64) {
	o.Helper()
	if diff := cmp.Diff(want, o.counts()[kind]); diff != "" {
		o.Errorf("kind %d: -want +got\n%s", kind, diff)
	}
}

// TestObserve: each new connection from or to a pod of the node is counted, by protocol and in both families, whether
// allowed or not, and whatever its source port.
func TestObserve(t *testing.T) {
	for name, options := range map[string]translate.Options{
		"drop": {Observe: 100}, "ranges": {Observe: 100}, "recheck": {Observe: 100, Established: frame.Recheck},
		"two ways": {Observe: 100, TwoWays: true},
		"reject, guarded": {Observe: 100, Deny: nft.Reject, Guard: guard.Options{UnknownPods: guard.Deny,
			Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:1::/64")}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newObserved(t, options)
			if name == "ranges" {
				o.byRanges()
			}
			all, denied := make(map[string]uint64), make(map[string]uint64)
			for _, f := range nft.Families() {
				for i, way := range [][2]string{{"web", "db"}, {"far", "db"}, {"out", "web"}, {"db", "out"},
					{"web", "far"}, {"far", "out"}, {"out", "far"}} {
					for _, service := range []string{"tcp/80", "tcp/81", "udp/80", "udp/81", "sctp/80", "sctp/81",
						"icmp"} {
						q := flow(f, way[0], way[1], service)
						allowed := o.probe(slices.Repeat([]prober.Probe{q}, 3)...)
						what := fmt.Sprintf("%s > %s %s/%d", q.Src, q.Dst, nft.ProtocolName(q.Proto), q.DstPort)
						if i < 5 { // otherwise neither end is a pod of the node
							all[what] = 3
						}
						if want := way[1] != "db" || q.DstPort == 80; allowed[0] != want {
							t.Errorf("%s: allowed %t, want %t", what, allowed[0], want)
						}
						if !allowed[0] {
							denied[what] = 3
						}
					}
				}
			}
			o.expect(observe.All, all)
			o.expect(observe.Denied, denied)
			o.expect(observe.Lost, map[string]uint64{"all": 0})
		})
	}
}

// byRanges sets the node's pod CIDRs, which then distinguish packets, unless a pod is outside of them.
func (o *observed) byRanges() {
	o.Helper()
	stray := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "stray"}, Node: node,
		Running: true, IPs: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	const byAddress = "ip saddr != @observed-pods-4 ip daddr != @observed-pods-4 return"
	for _, step := range []struct {
		edit func()
		want string // the second rule
	}{
		{func() {}, byAddress},
		{func() { o.state.SetNode(node, cidrs) }, "ip saddr != 10.0.1.0/24 ip daddr != 10.0.1.0/24 return"},
		{func() { o.state.SetPod(stray) }, byAddress},
		{func() { o.state.DeletePod(stray.NamespacedName) }, "ip saddr != 10.0.1.0/24 ip daddr != 10.0.1.0/24 return"},
	} {
		step.edit()
		if got := o.state.Complete().Chain("observe").Rules[1].String(); got != step.want {
			o.Errorf("%s, want %s", got, step.want)
		}
		o.apply()
	}
}

// TestObserveOnce: 1,000 connections from as many ports are one flow. Later packets, replies, and segments of
// connections unknown to conntrack are not counted.
func TestObserveOnce(t *testing.T) {
	o := newObserved(t, translate.Options{Observe: 100})
	o.probe(slices.Repeat([]prober.Probe{flow(nft.IPv4, "far", "db", "tcp/80")}, 1000)...)
	src, dst := netip.AddrPortFrom(ends("web")[0], 4000), netip.AddrPortFrom(ends("db")[0], 80)
	ack := prober.Segment{Flags: prober.ACK, Seq: 11, Ack: 21}
	allowed, err := o.Forwarded(
		prober.TCP(src, dst, prober.Segment{Flags: prober.SYN, Seq: 10}),
		prober.TCP(dst, src, prober.Segment{Flags: prober.SYN | prober.ACK, Seq: 20, Ack: 11}),
		prober.TCP(src, dst, ack),
		prober.UDP(src, dst, nil), prober.UDP(dst, src, nil), prober.UDP(src, dst, nil),
		prober.Echo(dst.Addr(), src.Addr(), 1, 1), prober.EchoReply(src.Addr(), dst.Addr(), 1, 1),
		prober.TCP(netip.AddrPortFrom(ends("db")[0], 5000), netip.AddrPortFrom(ends("far")[0], 6000), ack),
		prober.TCP(netip.AddrPortFrom(ends("db")[0], 5000), netip.AddrPortFrom(ends("far")[0], 6001),
			prober.Segment{Flags: prober.RST, Seq: 1}))
	if err != nil || slices.Contains(allowed, false) {
		t.Error(allowed, err)
	}
	o.expect(observe.All, map[string]uint64{"10.0.2.3 > 10.0.1.2 tcp/80": 1000, "10.0.1.1 > 10.0.1.2 tcp/80": 1,
		"10.0.1.1 > 10.0.1.2 udp/80": 1, "10.0.1.2 > 10.0.1.1 icmp/0": 1})
	o.expect(observe.Denied, nil)
}

// TestObserveServices: the destination of a flow is the one after DNAT, which may be the node itself.
func TestObserveServices(t *testing.T) {
	for name, way := range map[string]policy.PodToNode{
		"filter": policy.FilterPodToNode, "allow": policy.AllowPodToNode,
	} {
		t.Run(name, func(t *testing.T) {
			o := newObserved(t, translate.Options{Observe: 100, PodToNode: way})
			netns.NFT(t, `table inet nat { chain c { type nat hook prerouting priority dstnat; policy accept;
				ip daddr 192.0.2.99 tcp dport 8080 dnat ip to 10.0.1.2:80
				ip6 daddr 2001:db8::99 tcp dport 8080 dnat ip6 to [fd00:1::2]:80; }; }
				table inet raw { chain c { type filter hook prerouting priority raw; udp dport 53 notrack; }; }`,
				"-f", "-")
			node4, _ := prober.NodeAddr()
			var packets [][]byte
			for i, service := range []string{"192.0.2.99:8080", "[2001:db8::99]:8080"} {
				packets = append(packets, prober.TCP(netip.AddrPortFrom(ends("web")[i], 4000),
					netip.MustParseAddrPort(service), prober.Segment{Flags: prober.SYN}))
			}
			web := netip.AddrPortFrom(ends("web")[0], 4000)
			packets = append(packets, prober.UDP(web, netip.AddrPortFrom(node4, 53), nil),
				prober.UDP(web, netip.AddrPortFrom(node4, 54), nil))
			if _, err := o.Send(packets...); err != nil {
				t.Fatal(err)
			}
			o.expect(observe.All, map[string]uint64{"10.0.1.1 > 10.0.1.2 tcp/80": 1, "fd00:1::1 > fd00:1::2 tcp/80": 1,
				"10.0.1.1 > 192.0.0.8 udp/53": 1, "10.0.1.1 > 192.0.0.8 udp/54": 1})
		})
	}
}

// TestObserveFull: flows that a full set has no room for are counted as lost, their verdicts do not change, and flows
// already in the set are still counted.
func TestObserveFull(t *testing.T) {
	o := newObserved(t, translate.Options{Observe: 2})
	first := flow(nft.IPv4, "web", "db", "tcp/80")
	probes := []prober.Probe{first, flow(nft.IPv4, "web", "db", "icmp"), first}
	for _, service := range []string{"tcp/80", "udp/81", "icmp"} {
		probes = append(probes, flow(nft.IPv4, "far", "db", service))
	}
	want := []bool{true, false, true, true, false, false}
	if allowed := o.probe(probes...); !slices.Equal(allowed, want) {
		t.Errorf("allowed: %v, want %v", allowed, want)
	}
	o.probe(first)
	o.expect(observe.All, map[string]uint64{"10.0.1.1 > 10.0.1.2 tcp/80": 3, "10.0.1.1 > 10.0.1.2 icmp/0": 1})
	o.expect(observe.Lost, map[string]uint64{"all": 3})
	if all := o.counts()[observe.Denied]; len(all) != 2 { // its own set, which has room for one more
		t.Errorf("denied: %v", all)
	}
}

// TestObserveIsNoDrift: what packets add to the table is not a change to those who watch or compare it, and survives
// other changes.
func TestObserveIsNoDrift(t *testing.T) {
	o := newObserved(t, translate.Options{Observe: 100})
	before, err := o.conn.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.probe(flow(nft.IPv4, "far", "db", "tcp/80"), flow(nft.IPv6, "far", "db", "tcp/81"))
	after, err := o.conn.Generation(t.Context())
	if err != nil || after != before {
		t.Errorf("generation %d, then %d, %v", before, after, err)
	}
	want, _ := o.state.Complete().Shape()
	read, err := o.conn.Shape(t.Context(), frame.TableName)
	if difference := want.Difference(read); difference != "" || err != nil {
		t.Errorf("difference %q, %v", difference, err)
	}
	o.state.DeletePod(types.NamespacedName{Namespace: "shop", Name: "web"})
	o.apply()
	o.probe(flow(nft.IPv4, "far", "db", "tcp/80"), flow(nft.IPv4, "web", "out", "tcp/80"))
	o.expect(observe.All, map[string]uint64{"10.0.2.3 > 10.0.1.2 tcp/80": 2, "fd00:2::3 > fd00:1::2 tcp/81": 1})
}

// TestObserveAddsOnly: a table that counts is the table that does not, plus something.
func TestObserveAddsOnly(t *testing.T) {
	for _, c := range golden(t) {
		with := c.Options
		with.Observe = 10
		for _, n := range c.Nodes() {
			plain, more := translate.New(n, c.Options), translate.New(n, with)
			plain.Add(c.Cluster)
			more.Add(c.Cluster)
			has := make(map[string]int)
			for line := range strings.Lines(more.Complete().String()) {
				has[line]++
			}
			for line := range strings.Lines(plain.Complete().String()) {
				if has[line]--; has[line] < 0 {
					t.Errorf("%s: the table that counts lacks %s", c.Name, line)
				}
			}
			delete(has, "\n")
			for line := range maps.Keys(has) {
				also := strings.Contains(line, "policy accept") || strings.Contains(line, "ct state established")
				if strings.Contains(line, "accept") && !also && has[line] > 0 {
					t.Errorf("%s: the table that counts accepts by %s", c.Name, line)
				}
			}
		}
	}
}
