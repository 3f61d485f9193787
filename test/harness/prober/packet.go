// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// TCP flags.
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// hopLimit is the hop limit of every packet built here.
const hopLimit = 64

// Segment is what TCP adds to addresses and ports.
type Segment struct {
	Flags    uint8
	Seq, Ack uint32
	Payload  []byte
}

// TCP builds a packet with a TCP segment.
func TCP(src, dst netip.AddrPort, s Segment) []byte {
	b, l4 := packet(src.Addr(), dst.Addr(), unix.IPPROTO_TCP, 20+len(s.Payload))
	putPorts(l4, src, dst)
	binary.BigEndian.PutUint32(l4[4:], s.Seq)
	binary.BigEndian.PutUint32(l4[8:], s.Ack)
	l4[12] = 5 << 4 // words of header
	l4[13] = s.Flags
	binary.BigEndian.PutUint16(l4[14:], 65535) // window
	copy(l4[20:], s.Payload)
	binary.BigEndian.PutUint16(l4[16:], transportChecksum(src.Addr(), dst.Addr(), unix.IPPROTO_TCP, l4))
	return b
}

// UDP builds a packet with a UDP datagram.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	b, l4 := packet(src.Addr(), dst.Addr(), unix.IPPROTO_UDP, 8+len(payload))
	putPorts(l4, src, dst)
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	copy(l4[8:], payload)
	sum := transportChecksum(src.Addr(), dst.Addr(), unix.IPPROTO_UDP, l4)
	if sum == 0 {
		sum = 0xffff // 0 means no checksum
	}
	binary.BigEndian.PutUint16(l4[6:], sum)
	return b
}

// SCTP builds a packet with the chunks. The verification tag must be 0 for an INIT.
func SCTP(src, dst netip.AddrPort, tag uint32, chunks ...[]byte) []byte {
	n := 12
	for _, c := range chunks {
		n += len(c)
	}
	b, l4 := packet(src.Addr(), dst.Addr(), unix.IPPROTO_SCTP, n)
	putPorts(l4, src, dst)
	binary.BigEndian.PutUint32(l4[4:], tag)
	at := 12
	for _, c := range chunks {
		at += copy(l4[at:], c)
	}
	// Conntrack calls the packet invalid if this is wrong. The byte order is right: RFC 9260, appendix A.
	binary.LittleEndian.PutUint32(l4[8:], crc32.Checksum(l4, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// InitChunk is the SCTP chunk that opens an association; tag is the sender's own.
func InitChunk(tag uint32) []byte {
	c := make([]byte, 20)
	c[0] = 1                                          // INIT
	binary.BigEndian.PutUint16(c[2:], uint16(len(c))) // length
	binary.BigEndian.PutUint32(c[4:], tag)            // initiate tag
	binary.BigEndian.PutUint32(c[8:], 64<<10)         // receiver window
	binary.BigEndian.PutUint16(c[12:], 1)             // outbound streams
	binary.BigEndian.PutUint16(c[14:], 1)             // inbound streams
	binary.BigEndian.PutUint32(c[16:], tag)           // first TSN
	return c
}

// Message is what ICMP and ICMPv6 add to addresses.
type Message struct {
	Type, Code uint8
	Rest       uint32 // the second word of the header
	Payload    []byte // in an error, the packet that caused it
}

// ICMP builds a packet with an ICMP or ICMPv6 message, by the family of the addresses.
func ICMP(src, dst netip.Addr, m Message) []byte {
	proto := icmp(src)
	b, l4 := packet(src, dst, proto, 8+len(m.Payload))
	l4[0], l4[1] = m.Type, m.Code
	binary.BigEndian.PutUint32(l4[4:], m.Rest)
	copy(l4[8:], m.Payload)
	checksum := ^fold(sum(0, l4))
	if src.Is6() {
		checksum = transportChecksum(src, dst, proto, l4)
	}
	binary.BigEndian.PutUint16(l4[2:], checksum)
	return b
}

// Echo builds an ICMP or ICMPv6 echo request, by the family of the addresses.
func Echo(src, dst netip.Addr, id, seq uint16) []byte {
	request, _ := echo(src)
	return ICMP(src, dst, Message{Type: request, Rest: uint32(id)<<16 | uint32(seq)})
}

// EchoReply builds the answer to an Echo with the addresses swapped.
func EchoReply(src, dst netip.Addr, id, seq uint16) []byte {
	_, reply := echo(src)
	return ICMP(src, dst, Message{Type: reply, Rest: uint32(id)<<16 | uint32(seq)})
}

// echo is the types of echo messages in the address's family.
func echo(a netip.Addr) (request, reply uint8) {
	if a.Is6() {
		return 128, 129
	}
	return 8, 0
}

// icmp is the protocol number of the address family's ICMP.
func icmp(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// IP builds a packet of any protocol.
func IP(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	b, l4 := packet(src, dst, proto, len(payload))
	copy(l4, payload)
	return b
}

// packet makes a packet with a complete IP header, and also returns the n bytes after the header. The addresses are of
// one family.
func packet(src, dst netip.Addr, proto uint8, n int) (b, l4 []byte) {
	if src.Is6() {
		b = make([]byte, 40+n)
		b[0] = 6 << 4
		binary.BigEndian.PutUint16(b[4:], uint16(n))
		b[6], b[7] = proto, hopLimit
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return b, b[40:]
	}
	b = make([]byte, 20+n)
	b[0] = 4<<4 | 5 // words of header
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[8], b[9] = hopLimit, proto
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	putHeaderChecksum(b)
	return b, b[20:]
}

// putHeaderChecksum sets the checksum of an IPv4 header without options.
func putHeaderChecksum(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:20])))
}

func putPorts(l4 []byte, src, dst netip.AddrPort) {
	binary.BigEndian.PutUint16(l4, src.Port())
	binary.BigEndian.PutUint16(l4[2:], dst.Port())
}

// transportChecksum is the Internet checksum over the pseudo header and l4, whose checksum field is zero.
func transportChecksum(src, dst netip.Addr, proto uint8, l4 []byte) uint16 {
	s := uint64(proto) + uint64(len(l4))
	s = sum(s, src.AsSlice())
	s = sum(s, dst.AsSlice())
	return ^fold(sum(s, l4))
}

// sum adds the bytes to s as 16-bit words.
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(b[0])<<8 | uint64(b[1])
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// fold is the one's complement sum in 16 bits.
func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// Fragments cuts a packet without options or extension headers into fragments of at most size bytes of payload, a
// multiple of 8; id is the same in all fragments of a packet and in no others.
func Fragments(b []byte, id uint16, size int) [][]byte {
	n := 20
	if b[0]>>4 == 6 {
		n = 40
	}
	header, payload := b[:n], b[n:]
	var fragments [][]byte
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		place := uint16(at)
		if end < len(payload) {
			place |= moreFragments
		}
		fragments = append(fragments, fragment(header, id, place, payload[at:end]))
	}
	return fragments
}

// moreFragments is set in the place of all fragments except the last.
const moreFragments = 1

// fragment builds one fragment. Its place is the offset of its payload, which is a multiple of 8, and a flag.
func fragment(header []byte, id, place uint16, payload []byte) []byte {
	f := slices.Clone(header)
	if header[0]>>4 == 6 {
		f[6] = unix.IPPROTO_FRAGMENT
		binary.BigEndian.PutUint16(f[4:], uint16(8+len(payload)))
		f = append(f, header[6], 0)
		f = binary.BigEndian.AppendUint16(f, place)
		f = binary.BigEndian.AppendUint32(f, uint32(id))
		return append(f, payload...)
	}
	binary.BigEndian.PutUint16(f[2:], uint16(len(f)+len(payload)))
	binary.BigEndian.PutUint16(f[4:], id)
	binary.BigEndian.PutUint16(f[6:], place&moreFragments<<13|place/8)
	putHeaderChecksum(f)
	return append(f, payload...)
}
