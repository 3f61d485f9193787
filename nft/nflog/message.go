// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"bytes"
	"encoding/binary"

	"github.com/netpold/netpold/nft/kernel/message"
)

// decode decodes messages that were received, up to the length of batch, and returns the number of packets.
func (r *Reader) decode(batch []Packet) int {
	n := 0
	for n < len(batch) && len(r.rest) > 0 {
		m := r.rest[0]
		r.rest = r.rest[1:]
		if m.Header.Type == packetMessage && len(m.Data) >= message.GenericLen { // otherwise the end of a datagram
			batch[n] = r.decodePacket(m.Data[message.GenericLen:])
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
	for typ, v := range message.Attributes(attrs) {
		switch {
		case typ == attrHeader && len(v) >= 2:
			etherType = binary.BigEndian.Uint16(v)
		case typ == attrPayload:
			payload = v
		case typ == attrPrefix:
			p.Prefix = r.intern(v)
		case typ == attrSeq && len(v) == 4:
			r.follow(v.Uint32())
		}
	}
	p.decode(payload, etherType)
	return p
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
	v = bytes.TrimSuffix(v, []byte{0})
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
