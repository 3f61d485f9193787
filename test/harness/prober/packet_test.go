// SPDX-License-Identifier: Apache-2.0

package prober_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/test/harness/prober"
)

// ends are the two ends of a connection in each family.
var ends = []struct {
	name     string
	src, dst netip.AddrPort
}{
	{"IPv4", netip.AddrPortFrom(a4, 1000), netip.AddrPortFrom(b4, 80)},
	{"IPv6", netip.AddrPortFrom(a6, 1000), netip.AddrPortFrom(b6, 80)},
}

// forwarded sends one packet at a time, and fails unless the kernel's verdict is want.
func forwarded(t *testing.T, p *prober.Prober, name string, want bool, packets ...[]byte) {
	t.Helper()
	for i, b := range packets {
		got, err := p.Forwarded(b)
		if err != nil {
			t.Fatal(err)
		}
		if got[0] != want {
			t.Errorf("%s, packet %d: forwarded %t, want %t", name, i, got[0], want)
		}
	}
}

// TestStates: conntrack sees each kind of packet as intended, which also requires correct checksums.
func TestStates(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			p := prober.New(t)
			src, dst := e.src, e.dst
			syn := prober.TCP(src, dst, prober.Segment{Flags: prober.SYN, Seq: 10})
			answer := prober.TCP(dst, src, prober.Segment{Flags: prober.SYN | prober.ACK, Seq: 20, Ack: 11})
			load(t, "ct state new accept", "drop")
			forwarded(t, p, "new", true,
				syn,
				prober.UDP(src, dst, []byte("odd")),
				prober.SCTP(src, dst, 0, prober.InitChunk(1)),
				prober.Echo(src.Addr(), dst.Addr(), 1, 1))
			forwarded(t, p, "answer while only new is accepted", false, answer)

			load(t, "ct state established accept", "drop")
			forwarded(t, p, "established", true,
				answer,
				prober.TCP(src, dst, prober.Segment{Flags: prober.ACK | prober.PSH, Seq: 11, Ack: 21,
					Payload: []byte("data")}),
				prober.UDP(dst, src, nil),
				prober.EchoReply(dst.Addr(), src.Addr(), 1, 1))
			forwarded(t, p, "reply to nothing", false,
				prober.UDP(netip.AddrPortFrom(dst.Addr(), 81), src, nil),
				prober.EchoReply(dst.Addr(), src.Addr(), 2, 1))

			load(t, "ct state related accept", "drop")
			unreachable := prober.Message{Type: 3, Code: 1, Payload: syn}
			if src.Addr().Is6() {
				unreachable = prober.Message{Type: 1, Code: 3, Payload: syn}
			}
			forwarded(t, p, "error", true, prober.ICMP(dst.Addr(), src.Addr(), unreachable))

			load(t, "ct state invalid accept", "drop")
			reset := prober.TCP(dst, netip.AddrPortFrom(src.Addr(), 2000), prober.Segment{Flags: prober.RST, Seq: 1})
			broken := prober.UDP(netip.AddrPortFrom(src.Addr(), 2000), dst, []byte("x"))
			broken[len(broken)-1]++
			forwarded(t, p, "invalid", true, reset, broken)

			if err := p.Forget(); err != nil {
				t.Fatal(err)
			}
			load(t, "ct state new drop")
			forwarded(t, p, "forgotten", false, prober.UDP(dst, src, nil))
		})
	}
}

// TestUDPChecksum: a checksum of 0 is sent as 0xffff, because 0 means no checksum, which IPv6 forbids.
func TestUDPChecksum(t *testing.T) {
	p := prober.New(t)
	load(t, "ct state invalid drop")
	for _, e := range ends {
		zero := prober.UDP(e.src, e.dst, []byte{0, 0})
		sum := zero[len(zero)-4 : len(zero)-2]
		b := prober.UDP(e.src, e.dst, sum) // this payload makes the sum 0
		if got := b[len(b)-4 : len(b)-2]; !bytes.Equal(got, []byte{0xff, 0xff}) {
			t.Errorf("%s: checksum %x, want ffff", e.name, got)
		}
		forwarded(t, p, e.name, true, b)
	}
}

// TestSend: Send also returns packets of the kernel's own.
func TestSend(t *testing.T) {
	p := prober.New(t)
	load(t, "tcp dport 80 reject with tcp reset")
	for _, e := range ends {
		out, err := p.Send(prober.TCP(e.src, e.dst, prober.Segment{Flags: prober.SYN, Seq: 10}))
		if err != nil {
			t.Fatal(err)
		}
		if len(out) != 1 {
			t.Fatalf("%s: %d packets came out, want a reset: %x", e.name, len(out), out)
		}
		reset := prober.TCP(e.dst, e.src, prober.Segment{Flags: prober.RST | prober.ACK, Ack: 11})
		l4 := len(reset) - 20
		if got, want := out[0][len(out[0])-20:], reset[l4:]; !bytes.Equal(got[:14], want[:14]) {
			t.Errorf("%s: got %x, want %x", e.name, got, want)
		}
	}
	if out, err := p.Send([]byte{0}); err == nil {
		t.Errorf("no error for an invalid packet, but %x", out)
	}
	forwarded(t, p, "after an error", true, prober.UDP(ends[0].src, ends[0].dst, nil))
}

// TestForwardedOrder: verdicts are assigned correctly in several batches, even with equal packets among them.
func TestForwardedOrder(t *testing.T) {
	p := prober.New(t)
	load(t, "udp dport 81 drop", "udp dport 82 reject")
	rnd, packets, want := []uint16{80, 81, 82, 80, 80, 82, 83}, [][]byte(nil), []bool(nil)
	for i := range 1000 {
		port := rnd[i%len(rnd)]
		packets = append(packets, prober.UDP(ends[i%2].src, netip.AddrPortFrom(ends[i%2].dst.Addr(), port), nil))
		want = append(want, port == 80 || port == 83)
	}
	got, err := p.Forwarded(packets...)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestFragments: verdicts of fragments are assigned correctly, with and without conntrack, which reassembles and
// fragments them again.
func TestFragments(t *testing.T) {
	p := prober.New(t)
	for _, e := range ends {
		datagram := prober.UDP(e.src, e.dst, bytes.Repeat([]byte("netpold"), 200))
		other := prober.UDP(e.src, netip.AddrPortFrom(e.dst.Addr(), 81), nil)
		for i, c := range []struct {
			rules []string
			want  []bool // the fragments and, between the first and second, the other packet
		}{
			{nil, []bool{true, true, true, true}},
			{[]string{"ct state new accept"}, []bool{true, true, true, true}},
			{[]string{"ct state invalid counter", "udp dport 80 drop"}, []bool{false, true, false, false}},
			{[]string{"udp dport 81 drop"}, []bool{true, false, true, true}},
			{[]string{"udp dport 80 drop"}, []bool{false, true, true, true}}, // only the first has ports
		} {
			load(t, c.rules...)
			got, err := p.Forwarded(slices.Insert(prober.Fragments(datagram, uint16(i), 512), 1, other)...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, %q: got %v, want %v", e.name, c.rules, got, c.want)
			}
		}
	}
}
