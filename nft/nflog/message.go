// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// decode decodes messages that were received, up to the length of batch, and returns the number of packets.
func (r *Reader) decode(batch []Packet) int {
	n := 0
	for n < len(batch) && len(r.rest) > 0 {
		m := r.rest[0]
		r.rest = r.rest[1:]
		if m.Header.Type == packetMessage && len(m.Data) >= nfgenmsgLen { // otherwise the end of a datagram
			batch[n] = r.decodePacket(m.Data[nfgenmsgLen:])
			n++
		}
	}
	r.packets.Add(uint64(n))
	return n
}

// decodePacket decodes the attributes of one packet.
func (r *Reader) decodePacket(attrs []byte) Packet {
	var p Packet
	var etherType uint16
	var payload []byte
	for typ, v := range attributes(attrs) {
		switch {
		case typ == attrHeader && len(v) >= 2:
			etherType = binary.BigEndian.Uint16(v)
		case typ == attrPayload:
			payload = v
		case typ == attrPrefix:
			p.Prefix = r.intern(v)
		case typ == attrSeq && len(v) == 4:
			r.follow(binary.BigEndian.Uint32(v))
		}
	}
	_ = p.decode(payload, etherType) // Undecodable says so
	return p
}

// attributes ranges over the attributes in b: type and value, which shares b's memory. It ends before a truncated one.
// netlink.AttributeDecoder copies every value, 8 allocations a packet (github.com/mdlayher/netlink/issues/115).
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) ||
				!yield(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min((n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// follow counts the packets lost between the last one and this one, by their sequence numbers, which start at 0 and
// wrap.
func (r *Reader) follow(seq uint32) {
	if gap := seq - r.next; gap != 0 {
		r.lost.Add(uint64(gap))
	}
	r.next = seq + 1
}

// maxPrefixes bounds the kept prefixes: rules come and go, and their prefixes with them.
const maxPrefixes = 4096

// intern returns the string in an attribute, which ends with a 0, without allocating it again.
func (r *Reader) intern(v []byte) string {
	if n := len(v); n > 0 && v[n-1] == 0 {
		v = v[:n-1]
	}
	if s, ok := r.prefixes[string(v)]; ok {
		return s
	}
	if len(r.prefixes) >= maxPrefixes {
		clear(r.prefixes)
	}
	s := string(v)
	r.prefixes[s] = s
	return s
}
