// SPDX-License-Identifier: Apache-2.0

package prober_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

const (
	tcp   = unix.IPPROTO_TCP
	udp   = unix.IPPROTO_UDP
	sctp  = unix.IPPROTO_SCTP
	icmp  = unix.IPPROTO_ICMP
	icmp6 = unix.IPPROTO_ICMPV6
)

var (
	a4, b4 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a6, b6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

// load replaces the ruleset by a chain at the forward hook with the rules.
func load(t testing.TB, rules ...string) {
	t.Helper()
	netns.NFT(t, "flush ruleset\ntable inet test { chain forward { type filter hook forward priority filter\n"+
		strings.Join(rules, "\n")+"\n}\n}\n", "-f", "-")
}

// counter returns the packets seen by the rule with the comment.
func counter(t testing.TB, comment string) string {
	t.Helper()
	m := regexp.MustCompile(`counter packets (\d+) .*comment "` + comment + `"`).FindStringSubmatch(netns.NFT(t, "",
		"list", "ruleset"))
	if m == nil {
		t.Fatalf("no counter %q", comment)
	}
	return m[1]
}

// probe is a row of a table of probes.
func probe(src, dst netip.Addr, proto uint8, port uint16) prober.Probe {
	return prober.Probe{Src: src, Dst: dst, Proto: proto, DstPort: port}
}

func run(t testing.TB, p *prober.Prober, probes []prober.Probe) []bool {
	t.Helper()
	got, err := p.Run(probes)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestVerdicts(t *testing.T) {
	rules := []string{
		"tcp dport 81 drop",
		"ip saddr 10.0.0.1 udp dport 53 drop",
		"ip6 saddr fd00::1 udp dport 53 drop",
		"sctp dport 9 drop",
		"icmp type echo-request ip daddr 10.0.0.2 drop",
		"icmpv6 type echo-request ip6 daddr fd00::2 drop",
		"tcp dport 82 reject with tcp reset",
		"udp dport 82 reject",
	}
	rows := []struct {
		probe prober.Probe
		want  bool
	}{
		{probe(a4, b4, tcp, 80), true},
		{probe(a4, b4, tcp, 81), false},
		{probe(a4, b4, tcp, 82), false},
		{probe(a4, b4, udp, 81), true},
		{probe(a4, b4, udp, 82), false},
		{probe(a4, b4, udp, 53), false},
		{probe(b4, a4, udp, 53), true},
		{probe(a4, b4, sctp, 9), false},
		{probe(a4, b4, sctp, 10), true},
		{probe(a4, b4, icmp, 0), false},
		{probe(b4, a4, icmp, 0), true},
		{probe(a6, b6, tcp, 80), true},
		{probe(a6, b6, tcp, 81), false},
		{probe(a6, b6, tcp, 82), false},
		{probe(a6, b6, udp, 81), true},
		{probe(a6, b6, udp, 82), false},
		{probe(a6, b6, udp, 53), false},
		{probe(b6, a6, udp, 53), true},
		{probe(a6, b6, sctp, 9), false},
		{probe(a6, b6, sctp, 10), true},
		{probe(a6, b6, icmp6, 0), false},
		{probe(b6, a6, icmp6, 0), true},
	}
	var probes []prober.Probe
	for _, r := range rows {
		probes = append(probes, r.probe)
	}
	p := prober.New(t)
	for _, c := range []struct {
		name, ruleset string
		want          func(row int) bool
	}{
		{"no table", "", func(int) bool { return true }},
		{"rules", strings.Join(rules, "\n"), func(row int) bool { return rows[row].want }},
		{"drop all", "drop", func(int) bool { return false }},
		{"accept all", "accept", func(int) bool { return true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.Join(t)
			if c.ruleset != "" {
				load(t, c.ruleset)
			}
			for i, got := range run(t, p, probes) {
				if want := c.want(i); got != want {
					t.Errorf("%s: got %t, want %t", probes[i], got, want)
				}
			}
		})
	}
}

// states counts each state that conntrack may give a packet.
var states = []string{
	`ct state new counter comment "new"`,
	`ct state established counter comment "established"`,
	`ct state related counter comment "related"`,
	`ct state invalid counter comment "invalid"`,
}

// expectNew fails unless conntrack has called n packets new, and none anything else.
func expectNew(t testing.TB, n int) {
	t.Helper()
	for state, want := range map[string]int{"new": n, "established": 0, "related": 0, "invalid": 0} {
		if got := counter(t, state); got != fmt.Sprint(want) {
			t.Errorf("%s: %s packets, want %d", state, got, want)
		}
	}
}

// random makes probes among few pods and ports, so that many differ only in the source port.
func random(rnd *rand.Rand, n int) []prober.Probe {
	probes := make([]prober.Probe, n)
	for i := range probes {
		src, dst := byte(rnd.IntN(8)), byte(rnd.IntN(8))
		q := probe(netip.AddrFrom4([4]byte{10, 0, 0, src}), netip.AddrFrom4([4]byte{10, 0, 0, dst}), 0,
			uint16(rnd.IntN(16)))
		protos := []uint8{tcp, udp, sctp, icmp}
		if rnd.IntN(2) == 1 {
			q.Src, q.Dst = netip.AddrFrom16([16]byte{0: 0xfd, 15: src}), netip.AddrFrom16([16]byte{0: 0xfd, 15: dst})
			protos[3] = icmp6
		}
		q.Proto = protos[rnd.IntN(len(protos))]
		probes[i] = q
	}
	return probes
}

// TestRandom compares the kernel with the same rules in Go.
func TestRandom(t *testing.T) {
	n := 200_000
	if testing.Short() {
		n /= 10
	}
	p := prober.New(t)
	load(t, append(states,
		"tcp dport { 1, 4, 5, 9 } accept",
		"udp dport >= 8 accept",
		"sctp dport 3 accept",
		"icmp type echo-request ip saddr < 10.0.0.4 accept",
		"icmpv6 type echo-request ip6 daddr fd00::2 accept",
		"drop")...)
	rnd := rand.New(rand.NewPCG(1, 2))
	probes := random(rnd, n)
	wrong := 0
	for i, got := range run(t, p, probes) {
		q := probes[i]
		want := false
		switch q.Proto {
		case tcp:
			want = q.DstPort == 1 || q.DstPort == 4 || q.DstPort == 5 || q.DstPort == 9
		case udp:
			want = q.DstPort >= 8
		case sctp:
			want = q.DstPort == 3
		case icmp:
			want = q.Src.As4()[3] < 4
		case icmp6:
			want = q.Dst.As16()[15] == 2
		}
		if got != want {
			if wrong++; wrong <= 10 {
				t.Errorf("%s: got %t, want %t", q, got, want)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d are wrong", wrong, n)
	}
	expectNew(t, n)
}

// TestNew: every probe is new even in the hardest case: all accepted, one pair of pods in both directions, and the
// prober's own range of ports.
func TestNew(t *testing.T) {
	p := prober.New(t)
	load(t, states...)
	var probes []prober.Probe
	for i := range uint16(10_000) {
		probes = append(probes,
			probe(a4, b4, udp, 32768+i), probe(b4, a4, udp, 32768+2*i),
			probe(a6, b6, tcp, 80), prober.Probe{Src: b6, Dst: a6, Proto: tcp, SrcPort: 80, DstPort: 32768 + i},
			probe(a4, b4, icmp, 0), probe(b4, a4, icmp, 0), probe(b6, a6, icmp6, 0), probe(a6, b6, sctp, 80))
	}
	for i, got := range run(t, p, probes) {
		if !got {
			t.Fatalf("%s was dropped", probes[i])
		}
	}
	expectNew(t, len(probes))
}

// TestRepeated: a probe is new even if its tuple is not.
func TestRepeated(t *testing.T) {
	p := prober.New(t)
	load(t, states...)
	there := prober.Probe{Src: a4, Dst: b4, Proto: tcp, SrcPort: 1000, DstPort: 2000}
	back := prober.Probe{Src: b4, Dst: a4, Proto: tcp, SrcPort: 2000, DstPort: 1000}
	run(t, p, []prober.Probe{there, there, back})
	run(t, p, []prober.Probe{back})
	expectNew(t, 4)
}

// TestMillion: a run may have more probes than conntrack has room for.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million probes take some seconds")
	}
	p := prober.New(t)
	load(t, states...)
	probes := random(rand.New(rand.NewPCG(3, 4)), 1_000_000)
	for i, got := range run(t, p, probes) {
		if !got {
			t.Fatalf("probe %d, %s, was dropped", i, probes[i])
		}
	}
	expectNew(t, len(probes))
}

func TestRunRefuses(t *testing.T) {
	p := prober.New(t)
	node4, node6 := prober.NodeAddr()
	for _, q := range []prober.Probe{
		{},
		probe(a4, b6, tcp, 1),
		probe(a4, b4, icmp6, 1),
		probe(a6, b6, icmp, 1),
		probe(a4, b4, unix.IPPROTO_GRE, 1),
		probe(netip.MustParseAddr("::ffff:10.0.0.1"), b4, tcp, 1),
		probe(a6, netip.MustParseAddr("fd00::1%lo"), tcp, 1),
		probe(a4, netip.MustParseAddr("127.0.0.1"), tcp, 1),
		probe(netip.IPv6Loopback(), b6, tcp, 1),
		probe(a4, netip.MustParseAddr("0.0.0.1"), tcp, 1),
		probe(a4, netip.MustParseAddr("224.0.0.1"), tcp, 1),
		probe(a4, netip.MustParseAddr("255.255.255.255"), tcp, 1),
		probe(a6, netip.MustParseAddr("ff02::1"), tcp, 1),
		probe(a6, netip.MustParseAddr("fe80::1"), tcp, 1),
		probe(a4, node4, tcp, 1),
		probe(node6, b6, tcp, 1),
	} {
		if _, err := p.Run([]prober.Probe{q}); err == nil {
			t.Errorf("%s: no error", q)
		}
	}
}

// TestSilence: the kernel announces nothing on the devices, because it is not a member of any groups there.
func TestSilence(t *testing.T) {
	prober.New(t)
	groups, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[1], "pods-") && f[2] != "ff020000000000000000000000000001" &&
			f[2] != "ff010000000000000000000000000001" {
			t.Errorf("in a group: %s", line)
		}
	}
}

// TestFarAddresses: the kernel forwards what Run does not refuse, at the edges of both address spaces.
func TestFarAddresses(t *testing.T) {
	p := prober.New(t)
	var probes []prober.Probe
	for _, s := range []string{"1.0.0.0", "126.255.255.255", "128.0.0.0", "169.254.169.254", "192.0.2.1",
		"223.255.255.255", "240.0.0.1",
		"255.255.255.254", "::2", "::10.0.0.1", "::fffe:ffff:ffff", "::ffff:10.0.0.1", "::1:0:0:0", "64:ff9b::1",
		"2000::", "2002::1", "fc00::", "fe00::1", "fec0::1", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		a := netip.MustParseAddr(s)
		peer := a4
		if a.Is6() {
			peer = a6
		}
		probes = append(probes, probe(a, peer, tcp, 1), probe(peer, a, tcp, 1))
	}
	for i, got := range run(t, p, probes) {
		if !got {
			t.Errorf("%s: not forwarded", probes[i])
		}
	}
}

func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name  string
		rules []string
	}{
		{"none", nil},
		{"accept", []string{"ct state new counter accept"}},
		{"drop", []string{"ct state new counter drop"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := prober.New(b)
			if c.rules != nil {
				load(b, c.rules...)
			}
			probes := random(rand.New(rand.NewPCG(5, 6)), 10_000)
			b.ReportAllocs()
			for b.Loop() {
				run(b, p, probes)
			}
			b.ReportMetric(float64(b.N*len(probes))/b.Elapsed().Seconds(), "verdicts/s")
		})
	}
}
