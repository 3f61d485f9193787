// SPDX-License-Identifier: Apache-2.0

package nflog_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

// read reads n packets, which must come soon.
func read(t testing.TB, r *nflog.Reader, n int) []nflog.Packet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	batch := make([]nflog.Packet, 64)
	var got []nflog.Packet
	for len(got) < n {
		m, err := r.Read(ctx, batch[:min(len(batch), n-len(got))])
		if err != nil {
			t.Fatalf("after %d of %d packets, %+v: %v", len(got), n, r.Stats(), err)
		}
		got = append(got, batch[:m]...)
	}
	return got
}

// drain reads until no packet has come for a while, and returns how many have.
func drain(t testing.TB, r *nflog.Reader) int {
	t.Helper()
	batch, total := make([]nflog.Packet, 256), 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		n, err := r.Read(ctx, batch)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return total
		}
		if err != nil {
			t.Error(err)
			return total
		}
		total += n
	}
}

// discard reads n packets that are already waiting, without allocating. If the user may not have the buffer that they
// need, it skips the test.
func discard(ctx context.Context, t testing.TB, r *nflog.Reader, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var batch [64]nflog.Packet
	for n > 0 {
		m, err := r.Read(ctx, batch[:])
		if errors.Is(err, context.DeadlineExceeded) && os.Getenv("CI") == "" {
			t.Skipf("net.core.rmem_max is too low: %d packets are missing of %+v", n, r.Stats())
		}
		if err != nil {
			t.Fatal(err)
		}
		n -= m
	}
}

// counted returns how many packets the ruleset's first rule with a counter has seen.
func counted(t testing.TB) uint64 {
	t.Helper()
	m := regexp.MustCompile(`counter packets (\d+)`).FindStringSubmatch(netns.NFT(t, "", "list", "ruleset"))
	if m == nil {
		t.Fatal("no counter")
	}
	n, _ := strconv.ParseUint(m[1], 10, 64)
	return n
}

// Every kind of dropped packet is read once, in order, as it was sent.
func TestRead(t *testing.T) {
	p := prober.New(t)
	load(t,
		`ip version 4 log prefix "drop ingress pod/0f3a" group 86 drop`,
		`log prefix "drop egress pod/77aa" group 86 drop`)
	r := open(t)
	all := samples()
	send(t, p, packets(all)...)
	got := read(t, r, len(all))
	for i, s := range all {
		want := s.want
		want.Prefix = "drop ingress pod/0f3a"
		if want.Src.Is6() {
			want.Prefix = "drop egress pod/77aa"
		}
		if got[i] != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", s.name, got[i], want)
		}
	}
	drain(t, r)
	if s := r.Stats(); s != (nflog.Stats{Packets: uint64(len(all))}) {
		t.Errorf("got %+v", s)
	}
}

// The decoder agrees with the rules: the kernel follows extension headers in the same way.
func TestReadAsMatched(t *testing.T) {
	p := prober.New(t)
	protos := []uint8{nft.TCP, nft.UDP, nft.SCTP, nft.ICMP, nft.ICMPv6,
		unix.IPPROTO_GRE, unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_NONE, 135, 253}
	var rules []string
	for _, proto := range protos {
		n := strconv.Itoa(int(proto))
		if proto == nft.TCP || proto == nft.UDP || proto == nft.SCTP {
			rules = append(rules, "meta l4proto "+n+` th sport 40000 th dport 8080 log prefix "`+
				n+` with ports" group 86 drop`)
		}
		rules = append(rules, "meta l4proto "+n+` log prefix "`+n+`" group 86 drop`)
	}
	load(t, append(rules, `log prefix "unknown" group 86 drop`)...)
	r := open(t)
	all := samples()
	send(t, p, packets(all)...)
	for i, got := range read(t, r, len(all)) {
		want := strconv.Itoa(int(got.Proto))
		if got.DstPort == 8080 && got.SrcPort == 40000 {
			want += " with ports"
		}
		if got.Fragment && got.Proto == unix.IPPROTO_DSTOPTS {
			want = "unknown" // nft(8) has no name for it
		}
		if got.Prefix != want {
			t.Errorf("%s: the kernel matched %q, decoded %q", all[i].name, got.Prefix, want)
		}
	}
}

// A rule's snaplen cuts what is decoded, and conntrack puts fragments together before they are
// logged.
func TestReadCut(t *testing.T) {
	p := prober.New(t)
	src, dst := ends[1].src, ends[1].dst
	load(t, `udp dport 8080 log prefix "rule" group 86 snaplen 42 drop`,
		`tcp dport 8080 log group 86 snaplen 50 drop`,
		"ct state invalid drop",
		`log prefix "whole" group 86 drop`)
	r := open(t)
	long := prober.UDP(src, netip.AddrPortFrom(dst.Addr(), 81), make([]byte, 2000))
	send(t, p, prober.UDP(src, dst, nil))
	send(t, p, prober.TCP(src, dst, prober.Segment{Flags: prober.SYN}))
	send(t, p, prober.Fragments(long, 3, 512)...)
	got := read(t, r, 3)
	if g := got[0]; !g.Truncated || g.Proto != nft.UDP || g.SrcPort != 0 || g.DstPort != 0 || g.Prefix != "rule" {
		t.Errorf("42 bytes of UDP: got %+v", g)
	}
	if g := got[1]; !g.Truncated || g.Proto != nft.TCP || g.DstPort != 8080 || g.TCPFlags != 0 || g.Prefix != "" {
		t.Errorf("50 bytes of TCP: got %+v", g)
	}
	if g := got[2]; g.Truncated || g.Fragment || g.Proto != nft.UDP || g.DstPort != 81 || g.Prefix != "whole" {
		t.Errorf("reassembled: got %+v", g)
	}
}

// A batch smaller than a datagram gets the rest of it with the next calls.
func TestReadSmallBatch(t *testing.T) {
	p := prober.New(t)
	load(t, `log group 86 drop`)
	r := open(t)
	if n, err := r.Read(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("without a batch: got %d, %v", n, err)
	}
	var packets [][]byte
	for i := range 250 {
		packets = append(packets, prober.UDP(ends[0].src, netip.AddrPortFrom(ends[0].dst.Addr(), uint16(i)), nil))
	}
	send(t, p, packets...)
	batch := make([]nflog.Packet, 7)
	for i := 0; i < len(packets); {
		n, err := r.Read(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range batch[:n] {
			if g.DstPort != uint16(i) {
				t.Fatalf("packet %d: got %+v", i, g)
			}
			i++
		}
	}
}

// A slow reader loses packets, and knows how many when the next one comes; the rules drop them all the same.
func TestReadOverrun(t *testing.T) {
	p := prober.New(t)
	load(t, `udp dport 9 log prefix "end" group 86 drop`, `counter log prefix "flood" group 86 drop`)
	r := open(t)
	netns.Require(t, r.Shrink())
	flood := make([][]byte, 20_000)
	for i := range flood {
		flood[i] = prober.UDP(ends[i%2].src, ends[i%2].dst, nil)
	}
	for round := range uint64(3) {
		before := r.Stats().Lost
		send(t, p, flood...)
		drain(t, r)
		send(t, p, prober.UDP(ends[0].src, netip.AddrPortFrom(ends[0].dst.Addr(), 9), nil))
		if got := read(t, r, 1)[0]; got.Prefix != "end" {
			t.Errorf("got %+v", got)
		}
		s, dropped := r.Stats(), counted(t)
		if dropped != (round+1)*uint64(len(flood)) || s.Lost <= before || s.Packets-(round+1)+s.Lost != dropped {
			t.Errorf("got %+v, of %d dropped", s, dropped)
		}
		t.Logf("%+v", s)
	}
}

// A flood that fits in the buffer is read completely, with less than one allocation per packet.
func TestReadFlood(t *testing.T) {
	p := prober.New(t)
	load(t, `ip version 4 counter log prefix "drop one" group 86 drop`, `log prefix "drop two" group 86 drop`)
	r := open(t)
	const rounds, size = 40, 5000
	flood := make([][]byte, size)
	for i := range flood {
		flood[i] = prober.TCP(ends[i%2].src, ends[i%2].dst, prober.Segment{Flags: prober.SYN})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var allocated uint64
	for round := range rounds {
		send(t, p, flood...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		discard(ctx, t, r, size)
		runtime.ReadMemStats(&after)
		if round > 0 {
			allocated += after.Mallocs - before.Mallocs
		}
	}
	const total = rounds * size
	if s := r.Stats(); s != (nflog.Stats{Packets: total}) || counted(t) != total/2 {
		t.Errorf("got %+v", s)
	}
	t.Logf("%d allocations for %d packets", allocated, total)
	if allocated > total {
		t.Errorf("%d allocations for %d packets", allocated, total)
	}
}

// While a reader reads during a flood, packets and losses add up, and Stats may be called.
func TestReadMeanwhile(t *testing.T) {
	p := prober.New(t)
	load(t, `udp dport 9 log prefix "end" group 86 drop`, `counter log prefix "flood" group 86 drop`)
	r := open(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		drain(t, r)
	}()
	flood := make([][]byte, 5000)
	for i := range flood {
		flood[i] = prober.SCTP(ends[i%2].src, ends[i%2].dst, 0, prober.InitChunk(1))
	}
	last := uint64(0)
	for range 10 {
		send(t, p, flood...)
		s := r.Stats()
		if s.Packets+s.Lost < last {
			t.Errorf("got %+v after %d", s, last)
		}
		last = s.Packets + s.Lost
	}
	<-done
	drain(t, r) // if the flood paused
	send(t, p, prober.UDP(ends[0].src, netip.AddrPortFrom(ends[0].dst.Addr(), 9), nil))
	for prefix := ""; prefix != "end"; { // it may have paused twice on a slow machine
		prefix = read(t, r, 1)[0].Prefix
	}
	if s, want := r.Stats(), counted(t); s.Packets-1+s.Lost != want {
		t.Errorf("got %+v, of %d dropped", s, want)
	}
}

// One process reads a group; another can once the first closes it.
func TestOpenBusy(t *testing.T) {
	netns.Enter(t)
	first := open(t)
	for range 2 {
		_, err := nflog.Open(86)
		if !errors.Is(err, nflog.ErrBusy) || !errors.Is(err, unix.EPERM) {
			t.Errorf("got %v", err)
		}
		const want = "open log group 86: another process reads the group: operation not permitted"
		if err != nil && err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	other, err := nflog.Open(87)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for range 3 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		first = open(t)
	}
}

// The kernel has accepted the settings, as far as it shows them: copy mode 2 is packets, and the timeout is 10 times 10
// ms.
func TestOpenSettings(t *testing.T) {
	netns.Enter(t)
	open(t)
	b, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_log")
	netns.Require(t, err)
	// group, port, packets waiting, copy mode, copy range, timeout, references
	if f := strings.Fields(string(b)); len(f) != 7 || f[0] != "86" || strings.Join(f[3:6], " ") != "2 128 10" {
		t.Errorf("got %q", b)
	}
}

// Without CAP_NET_ADMIN the error says so, not that the group is taken.
func TestOpenForbidden(t *testing.T) {
	netns.Enter(t) // locks the thread, which ends with the test
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	_, err := nflog.Open(86)
	if errors.Is(err, nflog.ErrBusy) || !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
	const want = "open log group 86: CAP_NET_ADMIN is missing: operation not permitted"
	if err != nil && err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// Read ends when its context does, or the reader is closed, and otherwise goes on waiting.
func TestReadEnd(t *testing.T) {
	p := prober.New(t)
	load(t, `log group 86 drop`)
	r := open(t)
	batch := make([]nflog.Packet, 10)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if n, err := r.Read(ctx, batch); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("got %d, %v", n, err)
		}
		if n, err := r.Read(ctx, batch); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("canceled before: got %d, %v", n, err)
		}
	}
	send(t, p, prober.UDP(ends[0].src, ends[0].dst, nil))
	if got := read(t, r, 1)[0]; got.DstPort != 8080 {
		t.Errorf("got %+v", got)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = r.Close() })
	for range 2 {
		if n, err := r.Read(t.Context(), batch); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %d, %v", n, err)
		}
	}
	open(t) // the group is free
}

// BenchmarkRead measures the reader alone, a packet at a time, with the flood in the socket's buffer before.
func BenchmarkRead(b *testing.B) {
	p := prober.New(b)
	load(b, `log prefix "drop ingress pod/0f3a" group 86 drop`)
	r := open(b)
	flood := make([][]byte, 5000)
	for i := range flood {
		flood[i] = prober.TCP(ends[i%2].src, ends[i%2].dst, prober.Segment{Flags: prober.SYN})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= len(flood) {
		b.StopTimer()
		send(b, p, flood...)
		b.StartTimer()
		discard(b.Context(), b, r, len(flood))
	}
	b.StopTimer()
	if s := r.Stats(); s.Lost != 0 {
		b.Errorf("got %+v", s)
	}
}
