// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attr encodes an attribute.
func attr(typ uint16, v ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(attrLen+len(v)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, v...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

// message encodes a message.
func message(typ uint16, attrs ...[]byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN+nfgenmsgLen)
	for _, a := range attrs {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], typ)
	return b
}

// logged encodes what the kernel says of a packet that is not IP.
func logged(seq uint32, prefix string) []byte {
	return message(packetMessage,
		attr(attrHeader, 0x08, 0x06, 2, 0),
		attr(attrPrefix, append([]byte(prefix), 0)...),
		attr(attrSeq, binary.BigEndian.AppendUint32(nil, seq)...))
}

func reader() *Reader { return &Reader{prefixes: make(map[string]string)} }

// feed decodes datagrams.
func feed(r *Reader, datagrams ...[]byte) []Packet {
	var all []Packet
	batch := make([]Packet, 3)
	for _, r.rest = range datagrams {
		for {
			n := r.decode(batch)
			if n == 0 {
				break
			}
			all = append(all, batch[:n]...)
		}
	}
	return all
}

// The numbers of packets start at 0 and wrap, and each one that is left out is a packet lost. One without a number, of
// the moment in which the group was bound, is none.
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
		var datagrams [][]byte
		for _, seq := range c.seqs {
			datagrams = append(datagrams, logged(seq, "p"))
		}
		feed(r, datagrams...)
		if s := r.Stats(); s != (Stats{Packets: uint64(len(c.seqs)), Lost: c.lost}) {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	r := reader()
	if feed(r, message(packetMessage), logged(0, "p")); r.Stats() != (Stats{Packets: 2}) {
		t.Errorf("got %+v", r.Stats())
	}
}

// A datagram of several packets ends with a message of its own. What is not a packet's is passed by, and what follows a
// message that is cut short is not looked at.
func TestMessages(t *testing.T) {
	r := reader()
	b := append(logged(0, "one"), message(unix.NLMSG_ERROR)...)
	b = append(b, logged(1, "two")...)
	b = append(b, message(unix.NLMSG_DONE)...)
	cut := append(logged(2, "three"), logged(3, "four")[:30]...)
	got := feed(r, b, cut, logged(4, ""))
	var prefixes []string
	for _, p := range got {
		prefixes = append(prefixes, p.Prefix)
		if p != (Packet{Prefix: p.Prefix, Undecodable: true}) {
			t.Errorf("got %+v", p)
		}
	}
	if !slices.Equal(prefixes, []string{"one", "two", "three", ""}) || r.Stats().Lost != 1 {
		t.Errorf("got %q, %+v", prefixes, r.Stats())
	}
}

// Prefixes are kept once, and not all that there have ever been.
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

// The datagrams are the kernel's, and yet nothing is believed of them.
func FuzzMessages(f *testing.F) {
	f.Add(logged(0, "p"))
	f.Add(append(logged(7, "p"), message(unix.NLMSG_DONE)...))
	f.Add(message(packetMessage, attr(attrPrefix), attr(attrSeq), attr(attrHeader)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader()
		if got := feed(r, b); len(got) > len(b)/(unix.NLMSG_HDRLEN+nfgenmsgLen) ||
			r.Stats().Packets != uint64(len(got)) {
			t.Errorf("got %d packets of %d bytes", len(got), len(b))
		}
		_, _ = reply(b, 1)
	})
}
