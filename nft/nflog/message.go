// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// align returns n rounded up as netlink does messages and attributes.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// cutMessage returns the type and the body of the first message in b, which share b's memory, and what follows it. It
// is false at the end, or before a message that is cut short.
func cutMessage(b []byte) (typ uint16, body, rest []byte, ok bool) {
	if len(b) < unix.NLMSG_HDRLEN {
		return 0, nil, nil, false
	}
	n := binary.NativeEndian.Uint32(b)
	if n < unix.NLMSG_HDRLEN || uint64(n) > uint64(len(b)) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:n], b[min(align(int(n)), len(b)):], true
}

// cutAttribute is cutMessage for the attributes in a message.
func cutAttribute(b []byte) (typ uint16, value, rest []byte, ok bool) {
	if len(b) < attrLen {
		return 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < attrLen || n > len(b) {
		return 0, nil, nil, false
	}
	typ = binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	return typ, b[attrLen:n], b[min(align(n), len(b)):], true
}

// decode decodes messages of the datagram that is being read, up to the length of batch, and returns the number of
// packets.
func (r *Reader) decode(batch []Packet) int {
	n := 0
	for n < len(batch) {
		typ, body, rest, ok := cutMessage(r.rest)
		r.rest = rest
		if !ok {
			break
		}
		if typ == packetMessage && len(body) >= nfgenmsgLen { // else the end of a datagram of more than one
			r.decodePacket(body[nfgenmsgLen:], &batch[n])
			n++
		}
	}
	r.packets.Add(uint64(n))
	return n
}

// decodePacket decodes the attributes of one packet.
func (r *Reader) decodePacket(attrs []byte, p *Packet) {
	*p = Packet{}
	var etherType uint16
	var payload []byte
	for {
		typ, v, rest, ok := cutAttribute(attrs)
		if !ok {
			break
		}
		attrs = rest
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
	_ = p.decode(payload, etherType) // said by Undecodable
}

// follow counts the packets between the last one read and this one, by their numbers, which start at 0 and wrap.
func (r *Reader) follow(seq uint32) {
	if gap := seq - r.next; gap != 0 {
		r.lost.Add(uint64(gap))
	}
	r.next = seq + 1
}

// maxPrefixes is the number of prefixes kept. Rules come and go, and their prefixes with them.
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
