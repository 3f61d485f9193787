// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
	"unsafe"

	"github.com/mdlayher/netlink"

	"github.com/netpold/netpold/nft/kernel/message"
)

// encode encodes a message; what encodes its attributes may be nil.
func encode(typ netlink.HeaderType, attributes func(*netlink.AttributeEncoder)) netlink.Message {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	if attributes != nil {
		attributes(e)
	}
	b, err := e.Encode()
	if err != nil {
		panic(err)
	}
	return netlink.Message{Header: netlink.Header{Type: typ}, Data: append(make([]byte, message.GenericLen), b...)}
}

// logged encodes the kernel's message about a packet that is not IP.
func logged(seq uint32, prefix string) netlink.Message {
	return encode(packetMessage, func(e *netlink.AttributeEncoder) {
		e.Bytes(attrHeader, []byte{0x08, 0x06, 2, 0})
		e.String(attrPrefix, prefix)
		e.Uint32(attrSeq, seq)
	})
}

func reader() *Reader { return &Reader{prefixes: make(map[string]string)} }

// feed decodes messages.
func feed(r *Reader, messages ...netlink.Message) []Packet {
	var all []Packet
	batch := make([]Packet, 3)
	r.rest = messages
	for n := r.decode(batch); n > 0; n = r.decode(batch) {
		all = append(all, batch[:n]...)
	}
	return all
}

// Packet numbers start at 0 and wrap, and each missing number is a lost packet. A packet without a number, from the
// moment in which the group was bound, is not a loss.
func TestLost(t *testing.T) {
	for name, c := range map[string]struct {
		seqs []uint32
		lost uint64
	}{
		"none":          {[]uint32{0, 1, 2}, 0},
		"the first":     {[]uint32{3, 4}, 3},
		"in between":    {[]uint32{0, 5, 6, 9}, 6},
		"wrap":          {[]uint32{1<<32 - 2, 1<<32 - 1, 0, 1}, 1<<32 - 2},
		"wrap and lost": {[]uint32{1<<32 - 2, 4}, 1<<32 - 2 + 5},
	} {
		r := reader()
		for _, seq := range c.seqs {
			feed(r, logged(seq, "p"))
		}
		if s := r.Stats(); s != (Stats{Packets: uint64(len(c.seqs)), Lost: c.lost}) {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	r := reader()
	if feed(r, encode(packetMessage, nil), logged(0, "p")); r.Stats() != (Stats{Packets: 2}) {
		t.Errorf("got %+v", r.Stats())
	}
}

// A datagram of several packets ends with its own message. Messages that are not about packets are skipped.
func TestMessages(t *testing.T) {
	r := reader()
	cut := logged(2, "cut")
	cut.Data = cut.Data[:10]
	got := feed(r, logged(0, "one"), encode(netlink.Error, nil), logged(1, "two"), encode(netlink.Done, nil), cut,
		logged(3, ""))
	var prefixes []string
	for _, p := range got {
		prefixes = append(prefixes, p.Prefix)
		if p != (Packet{Prefix: p.Prefix, Undecodable: true}) {
			t.Errorf("got %+v", p)
		}
	}
	if !slices.Equal(prefixes, []string{"one", "two", "", ""}) || r.Stats().Lost != 1 {
		t.Errorf("got %q, %+v", prefixes, r.Stats())
	}
}

// Each prefix is kept once, and old ones are not kept for ever.
func TestPrefixes(t *testing.T) {
	r := reader()
	got := feed(r, logged(0, "same"), logged(1, "same"))
	if unsafe.StringData(got[0].Prefix) != unsafe.StringData(got[1].Prefix) {
		t.Error("the same prefix twice")
	}
	for i := range uint32(3 * maxPrefixes) {
		want := strconv.Itoa(int(i))
		if p := feed(r, logged(i+2, want)); p[0].Prefix != want {
			t.Fatalf("got %q, want %q", p[0].Prefix, want)
		}
	}
	if len(r.prefixes) > maxPrefixes {
		t.Errorf("%d prefixes", len(r.prefixes))
	}
}

// The messages come from the kernel, but nothing in them is trusted.
func FuzzMessages(f *testing.F) {
	f.Add(logged(0, "p").Data)
	f.Add(encode(packetMessage, func(e *netlink.AttributeEncoder) {
		for _, typ := range []uint16{attrPrefix, attrSeq, attrHeader, attrPayload} {
			e.Bytes(typ, nil)
		}
	}).Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader()
		got := feed(r, netlink.Message{Header: netlink.Header{Type: packetMessage}, Data: b})
		if len(got) > 1 || r.Stats().Packets != uint64(len(got)) {
			t.Errorf("got %d packets of %d bytes", len(got), len(b))
		}
	})
}
