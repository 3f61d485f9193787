// SPDX-License-Identifier: Apache-2.0

package nflog_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/test/harness/prober"
)

// sample is a packet and what it decodes to.
type sample struct {
	name   string
	packet []byte
	want   nflog.Packet
}

// samples returns what every kind of packet decodes to.
func samples() []sample {
	var all []sample
	for _, e := range ends {
		all = append(all, plain(e.name, e.src, e.dst)...)
	}
	return append(all, special()...)
}

// packets returns the packets of samples.
func packets(all []sample) [][]byte {
	var packets [][]byte
	for _, s := range all {
		packets = append(packets, s.packet)
	}
	return packets
}

// plain are the packets that look the same in both families.
func plain(name string, src, dst netip.AddrPort) []sample {
	base := nflog.Packet{Src: src.Addr(), Dst: dst.Addr()}
	ports := base
	ports.SrcPort, ports.DstPort = src.Port(), dst.Port()
	with := func(p nflog.Packet, proto uint8) nflog.Packet { p.Proto = proto; return p }
	flags := func(f uint8) nflog.Packet { p := with(ports, nft.TCP); p.TCPFlags = f; return p }
	icmp := func(typ, code uint8) nflog.Packet {
		p := with(base, nft.ICMP)
		if src.Addr().Is6() {
			p.Proto = nft.ICMPv6
		}
		p.ICMPType, p.ICMPCode = typ, code
		return p
	}
	data := prober.Segment{Flags: prober.ACK | prober.PSH, Payload: []byte("x")}
	later := with(base, nft.UDP)
	later.Fragment = true
	request := icmp(8, 0)
	if src.Addr().Is6() {
		request = icmp(128, 0)
	}
	syn := prober.TCP(src, dst, prober.Segment{Flags: prober.SYN})
	pieces := prober.Fragments(prober.UDP(src, dst, make([]byte, 100)), 7, 48)
	return []sample{
		{name + " TCP SYN", syn, flags(nflog.SYN)},
		{name + " TCP data", prober.TCP(src, dst, data), flags(nflog.ACK | nflog.PSH)},
		{name + " TCP RST", prober.TCP(src, dst, prober.Segment{Flags: prober.RST}), flags(nflog.RST)},
		{name + " UDP", prober.UDP(src, dst, []byte("x")), with(ports, nft.UDP)},
		{name + " UDP empty", prober.UDP(src, dst, nil), with(ports, nft.UDP)},
		{name + " SCTP", prober.SCTP(src, dst, 0, prober.InitChunk(1)), with(ports, nft.SCTP)},
		{name + " ping", prober.Echo(src.Addr(), dst.Addr(), 1, 2), request},
		{name + " ICMP error", prober.ICMP(src.Addr(), dst.Addr(), prober.Message{Type: 3, Code: 1, Payload: syn}),
			icmp(3, 1)},
		{name + " GRE", prober.IP(src.Addr(), dst.Addr(), unix.IPPROTO_GRE, make([]byte, 8)),
			with(base, unix.IPPROTO_GRE)},
		{name + " ESP", prober.IP(src.Addr(), dst.Addr(), unix.IPPROTO_ESP, make([]byte, 8)),
			with(base, unix.IPPROTO_ESP)},
		{name + " AH", prober.IP(src.Addr(), dst.Addr(), unix.IPPROTO_AH, append(authentication(6), syn...)),
			with(base, unix.IPPROTO_AH)},
		{name + " nothing after the header", prober.IP(src.Addr(), dst.Addr(), 253, nil), with(base, 253)},
		{name + " first fragment", pieces[0], with(ports, nft.UDP)},
		{name + " middle fragment", pieces[1], later},
		{name + " last fragment", pieces[2], later},
	}
}

// special are the packets of one family.
func special() []sample {
	s4, d4, s6, d6 := ends[0].src, ends[0].dst, ends[1].src, ends[1].dst
	udp := nflog.Packet{Src: s6.Addr(), Dst: d6.Addr(), Proto: nft.UDP, SrcPort: s6.Port(), DstPort: d6.Port()}
	other := func(proto uint8) nflog.Packet { return nflog.Packet{Src: s6.Addr(), Dst: d6.Addr(), Proto: proto} }
	udp4 := udp
	udp4.Src, udp4.Dst = s4.Addr(), d4.Addr()
	later := other(nft.UDP)
	later.Fragment = true
	nested := other(unix.IPPROTO_DSTOPTS)
	nested.Fragment = true
	b4, b6 := prober.UDP(s4, d4, []byte("x")), prober.UDP(s6, d6, []byte("xxxxxxxx"))
	const hop, route, frag, dst = unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT,
		unix.IPPROTO_DSTOPTS
	return []sample{
		{"IPv4 options", withOptions(b4, 8), udp4},
		{"IPv4 all options", withOptions(b4, 40), udp4},
		{"IPv4 with ICMPv6", prober.IP(s4.Addr(), d4.Addr(), nft.ICMPv6, []byte{128, 0, 0, 0}),
			nflog.Packet{Src: s4.Addr(), Dst: d4.Addr(), Proto: nft.ICMPv6}},
		{"IPv6 with ICMP", prober.IP(s6.Addr(), d6.Addr(), nft.ICMP, []byte{8, 0, 0, 0}), other(nft.ICMP)},
		{"IPv6 hop-by-hop", extended(b6, hop, options(17, 8)), udp},
		{"IPv6 destination options", extended(b6, dst, options(17, 16)), udp},
		{"IPv6 long options", extended(b6, dst, options(17, 40)), udp},
		{"IPv6 routing", extended(b6, route, routing(17)), udp},
		{"IPv6 all of them", extended(b6, hop,
			options(dst, 8), options(route, 8), routing(frag), fragmentHeader(dst, 0, false), options(17, 8)), udp},
		{"IPv6 many", extended(b6, dst, options(dst, 8), options(dst, 8), options(dst, 8), options(dst, 8),
			options(17, 8)), udp},
		{"IPv6 AH", extended(b6, unix.IPPROTO_AH, authentication(17)), other(unix.IPPROTO_AH)},
		{"IPv6 AH behind options", extended(b6, dst, options(unix.IPPROTO_AH, 8), authentication(17)),
			other(unix.IPPROTO_AH)},
		{"IPv6 no next header", extended(b6, dst, options(unix.IPPROTO_NONE, 8)), other(unix.IPPROTO_NONE)},
		{"IPv6 mobility", extended(b6, 135, options(59, 8)), other(135)},
		{"IPv6 fragment of one", extended(b6, frag, fragmentHeader(17, 0, false)), udp},
		{"IPv6 first fragment", extended(b6, frag, fragmentHeader(17, 0, true)), udp},
		{"IPv6 first fragment with options", extended(b6, frag, fragmentHeader(dst, 0, true), options(17, 8)), udp},
		{"IPv6 later fragment", extended(b6, frag, fragmentHeader(17, 800, false)), later},
		{"IPv6 later fragment behind options",
			extended(b6, hop, options(frag, 8), fragmentHeader(17, 800, true)), later},
		{"IPv6 later fragment of options", extended(b6, frag, fragmentHeader(dst, 800, false)), nested},
	}
}

func TestDecode(t *testing.T) {
	for _, s := range samples() {
		got := nflog.Decode(s.packet, etherType(s.packet))
		if got != s.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", s.name, got, s.want)
		}
	}
}

// However many bytes are copied, what is decoded is right, and the rest is reported as missing.
func TestDecodeTruncated(t *testing.T) {
	for _, s := range samples() {
		for n := range s.packet {
			header := 20
			if s.want.Src.Is6() {
				header = 40
			}
			got := nflog.Decode(s.packet[:n], etherType(s.packet))
			if got.Undecodable != (n < header) {
				t.Errorf("%s, %d bytes: got %+v", s.name, n, got)
				continue
			}
			if !got.Undecodable {
				consistent(t, got, s.want)
			}
		}
	}
}

// consistent: a packet decoded from fewer bytes says nothing that the whole packet does not say.
func consistent(t *testing.T, got, all nflog.Packet) {
	t.Helper()
	if !got.Truncated {
		if got != all {
			t.Errorf("got %+v, of the whole %+v", got, all)
		}
		return
	}
	if got.Src != all.Src || got.Dst != all.Dst {
		t.Errorf("got addresses %s and %s, of the whole %s and %s", got.Src, got.Dst, all.Src, all.Dst)
	}
	if got.SrcPort != 0 && got.SrcPort != all.SrcPort || got.DstPort != 0 && got.DstPort != all.DstPort {
		t.Errorf("got ports %d and %d, of the whole %d and %d", got.SrcPort, got.DstPort, all.SrcPort, all.DstPort)
	}
	if got.TCPFlags != 0 || got.ICMPType != 0 || got.ICMPCode != 0 || got.Fragment {
		t.Errorf("got %+v, of the whole %+v", got, all)
	}
	if got.SrcPort|got.DstPort != 0 && got.Proto != all.Proto {
		t.Errorf("got ports of protocol %d, of the whole %d", got.Proto, all.Proto)
	}
}

func TestDecodeHostile(t *testing.T) {
	s4, d4, s6, d6 := ends[0].src, ends[0].dst, ends[1].src, ends[1].dst
	b4, b6 := prober.UDP(s4, d4, []byte("x")), prober.UDP(s6, d6, []byte("x"))
	syn := prober.TCP(s4, d4, prober.Segment{Flags: prober.SYN})
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	v4 := func(proto uint8) nflog.Packet { return nflog.Packet{Src: s4.Addr(), Dst: d4.Addr(), Proto: proto} }
	v6 := func(proto uint8) nflog.Packet { return nflog.Packet{Src: s6.Addr(), Dst: d6.Addr(), Proto: proto} }
	cut := func(p nflog.Packet) nflog.Packet { p.Truncated = true; return p }
	ports := func(p nflog.Packet) nflog.Packet { p.SrcPort, p.DstPort = s4.Port(), d4.Port(); return p }
	for _, s := range []sample{
		{"longer header than packet", edit(b4, 0, 0x4f)[:24], cut(v4(nft.UDP))},
		{"shorter length than header", edit(b4, 2, 0, 19), cut(v4(nft.UDP))},
		{"length ends in the ports", edit(b4, 2, 0, 23), cut(v4(nft.UDP))},
		{"length ends after the ports", edit(b4, 2, 0, 24), ports(v4(nft.UDP))},
		{"length ends before the flags", edit(syn, 2, 0, 33), cut(ports(v4(nft.TCP)))},
		{"length beyond the packet", edit(b4, 2, 0xff, 0xff), ports(v4(nft.UDP))},
		{"no length", edit(b4, 2, 0, 0), ports(v4(nft.UDP))},
		{"IPv6 no length", edit(b6, 4, 0, 0), ports(v6(nft.UDP))},
		{"IPv6 length ends in the ports", edit(b6, 4, 0, 3), cut(v6(nft.UDP))},
		{"longer extension header than packet", extended(b6, 60, []byte{17, 255, 0, 0, 0, 0, 0, 0}), cut(v6(nft.UDP))},
		{"extension header cut", extended(b6, 60, []byte{17, 0})[:42], cut(v6(60))},
		{"fragment header cut", extended(b6, 44, fragmentHeader(17, 0, true))[:43], cut(v6(44))},
		{"mapped", edit(b6, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1),
			ports(nflog.Packet{Src: netip.MustParseAddr("::ffff:10.0.0.1"), Dst: d6.Addr(), Proto: nft.UDP})},
	} {
		got := nflog.Decode(s.packet, etherType(s.packet))
		if got != s.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", s.name, got, s.want)
		}
	}
	for name, c := range map[string]struct {
		packet []byte
		typ    uint16
	}{
		"empty":            {nil, unix.ETH_P_IP},
		"IPv6 empty":       {nil, unix.ETH_P_IPV6},
		"short":            {b4[:19], unix.ETH_P_IP},
		"IPv6 short":       {b6[:39], unix.ETH_P_IPV6},
		"IPv6 as IPv4":     {b6, unix.ETH_P_IP},
		"IPv4 as IPv6":     {withOptions(b4, 40), unix.ETH_P_IPV6},
		"header too short": {edit(b4, 0, 0x44), unix.ETH_P_IP},
		"ARP":              {b4, unix.ETH_P_ARP},
		"no type":          {b4, 0},
	} {
		if got := nflog.Decode(c.packet, c.typ); got != (nflog.Packet{Undecodable: true}) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// For any bytes there is no panic and no allocation, and fewer bytes give nothing different.
func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.packet, uint16(50))
		f.Add(extended(append(make([]byte, 40), s.packet...), 60, options(17, 8)), uint16(60))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		for _, typ := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6} {
			all := nflog.Decode(b, typ)
			if all.Undecodable {
				if all != (nflog.Packet{Undecodable: true}) {
					t.Errorf("got %+v", all)
				}
				continue
			}
			if all.Src.Is4() != (typ == unix.ETH_P_IP) || all.Src.Is4() != all.Dst.Is4() {
				t.Errorf("got addresses %s and %s", all.Src, all.Dst)
			}
			if (all.Fragment || all.Proto != nft.TCP && all.Proto != nft.UDP && all.Proto != nft.SCTP) &&
				all.SrcPort|all.DstPort != 0 {
				t.Errorf("got ports: %+v", all)
			}
			if got := nflog.Decode(b[:min(int(n), len(b))], typ); !got.Undecodable {
				consistent(t, got, all)
			}
		}
	})
}

// FuzzRoundTrip: decoding returns what was put into a packet.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint32(80), uint8(2), uint8(0), uint16(0))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint32(5353<<16|53), uint8(1), uint8(1), uint16(500))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint32(9), uint8(3), uint8(6), uint16(500))
	f.Fuzz(func(t *testing.T, a []byte, ports uint32, kind, shape uint8, size uint16) {
		if len(a) < 32 {
			return
		}
		src, dst := netip.AddrFrom16([16]byte(a)), netip.AddrFrom16([16]byte(a[16:]))
		if shape&1 == 0 {
			src, dst = netip.AddrFrom4([4]byte(a)), netip.AddrFrom4([4]byte(a[16:]))
		}
		from, to := netip.AddrPortFrom(src, uint16(ports>>16)), netip.AddrPortFrom(dst, uint16(ports))
		want := nflog.Packet{Src: src, Dst: dst, SrcPort: from.Port(), DstPort: to.Port()}
		payload := make([]byte, min(size, 2000))
		var packet []byte
		switch kind % 4 {
		case 0:
			packet, want.Proto, want.TCPFlags = prober.TCP(from, to, prober.Segment{Flags: kind, Payload: payload}),
				nft.TCP, kind
		case 1:
			packet, want.Proto = prober.UDP(from, to, payload), nft.UDP
		case 2:
			packet, want.Proto = prober.SCTP(from, to, ports, prober.InitChunk(ports)), nft.SCTP
		case 3:
			packet = prober.ICMP(src, dst, prober.Message{Type: kind, Code: uint8(ports), Rest: ports,
				Payload: payload})
			want = nflog.Packet{Src: src, Dst: dst, Proto: nft.ICMP, ICMPType: kind, ICMPCode: uint8(ports)}
			if src.Is6() {
				want.Proto = nft.ICMPv6
			}
		}
		later := nflog.Packet{Src: src, Dst: dst, Proto: want.Proto, Fragment: true}
		for i, b := range pieces(packet, shape) {
			if got := nflog.Decode(b[:min(len(b), 128)], etherType(b)); got != want {
				t.Errorf("piece %d: got %+v, want %+v", i, got, want)
			}
			want = later
		}
	})
}

// pieces adds options to a packet, or fragments it.
func pieces(packet []byte, shape uint8) [][]byte {
	six := packet[0]>>4 == 6
	switch {
	case shape&2 != 0:
		return prober.Fragments(packet, binary.BigEndian.Uint16(packet[4:]), 64)
	case shape&4 != 0 && six:
		return [][]byte{extended(packet, 0, options(43, 8), routing(60), options(packet[6], 8*(1+int(shape>>4)%4)))}
	case shape&4 != 0:
		return [][]byte{withOptions(packet, 4*(int(shape>>4)%11))}
	}
	return [][]byte{packet}
}

func BenchmarkDecode(b *testing.B) {
	packet := prober.TCP(ends[1].src, ends[1].dst, prober.Segment{Flags: prober.SYN})
	b.ReportAllocs()
	for b.Loop() {
		if p := nflog.Decode(packet, unix.ETH_P_IPV6); p.Undecodable {
			b.Fatal("undecodable")
		}
	}
}
