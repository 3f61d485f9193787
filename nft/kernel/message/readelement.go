// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Elements gathers the elements of a set.
type Elements struct {
	Type  nft.SetType
	Found []nft.Counted // in an interval set only the starts, without To or Last yet
	Ends  []nft.Key     // in an interval set: the addresses or ports after the intervals
}

// Message takes a message of elements, by its attributes.
func (d *Elements) Message(attrs []byte) {
	for _, el := range Attributes(Attribute(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
		d.element(el)
	}
}

// element takes one element.
func (d *Elements) element(el []byte) {
	var e nft.Counted
	var flags uint32
	for typ, v := range Attributes(el) {
		switch typ {
		case unix.NFTA_SET_ELEM_FLAGS:
			flags = v.Uint32()
		case unix.NFTA_SET_ELEM_KEY:
			e.Key = d.Key(Attribute(v, unix.NFTA_DATA_VALUE))
		case unix.NFTA_SET_ELEM_DATA:
			e.Verdict = verdictOf(Attribute(v, unix.NFTA_DATA_VERDICT))
		case unix.NFTA_SET_ELEM_USERDATA:
			e.Comment = CommentOf(v)
		case unix.NFTA_SET_ELEM_EXPR:
			e.Packets = packetsOf(v)
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.Left = v.Uint64()
		}
	}
	if flags&unix.NFT_SET_ELEM_INTERVAL_END != 0 {
		d.Ends = append(d.Ends, e.Key)
		return
	}
	d.Found = append(d.Found, e)
}

// Finish returns all elements. It gives each interval its last address or port: the one before the next end or
// interval, or the highest of all.
func (d *Elements) Finish() []nft.Counted {
	if !d.Type.Interval() {
		return d.Found
	}
	next := d.Ends
	for i := range d.Found {
		next = append(next, d.Found[i].Key)
	}
	slices.SortFunc(next, compareStarts)
	slices.SortFunc(d.Found, func(a, b nft.Counted) int { return compareStarts(a.Key, b.Key) })
	for i := range d.Found {
		e := &d.Found[i]
		for len(next) > 0 && compareStarts(next[0], e.Key) <= 0 {
			next = next[1:]
		}
		last := d.Key(bytes.Repeat([]byte{0xff}, maxKey))
		if len(next) > 0 {
			last = nft.Key{Addr: before(next[0].Addr), Port: next[0].Port - 1}
		}
		if d.Type.Fields == nft.PortInterval {
			e.Last = last.Port
		} else {
			e.To = last.Addr
		}
	}
	return d.Found
}

func compareStarts(a, b nft.Key) int {
	return cmp.Or(bytes.Compare(a.Addr[:], b.Addr[:]), cmp.Compare(a.Port, b.Port))
}

// before returns the address before a.
func before(a [16]byte) [16]byte {
	for i := len(a) - 1; i >= 0; i-- {
		a[i]--
		if a[i] != 0xff {
			break
		}
	}
	return a
}

// Twice says whether an element was read twice, and so another one probably was missed. After many insertions the
// kernel moves a hash set to a larger table in the background, even while it is being read; that is not a transaction.
func (d *Elements) Twice() bool {
	seen := make(map[nft.Key]struct{}, len(d.Found))
	for i := range d.Found {
		seen[d.Found[i].Key] = struct{}{}
	}
	return len(seen) < len(d.Found)
}

// Key decodes a key, see AppendKey. One that is too short is padded with zeros.
func (d *Elements) Key(v []byte) nft.Key {
	var b [maxKey]byte
	copy(b[:], v)
	if d.Type.OfPorts() {
		return nft.Key{Port: binary.BigEndian.Uint16(b[:])}
	}
	n := addrLen(d.Type.Family)
	k := nft.Key{Addr: addrOf(b[:n])}
	rest := b[n:]
	if d.Type.Fields == nft.AddrAddr || d.Type.Fields == nft.Flow {
		k.To, rest = addrOf(rest[:n]), rest[n:]
	}
	switch d.Type.Fields {
	case nft.AddrProtoPort, nft.Flow:
		k.Proto, k.Port = rest[0], binary.BigEndian.Uint16(rest[4:])
	}
	return k
}

// addrLen is the length in bytes of an address.
func addrLen(f nft.Family) int {
	if f == nft.IPv6 {
		return 16
	}
	return 4
}

// addrOf returns an address of 4 or 16 bytes in the form of [nft.Key].
func addrOf(b []byte) [16]byte {
	a := [16]byte{10: 0xff, 11: 0xff}
	if len(b) == 16 {
		clear(a[:])
	}
	copy(a[16-len(b):], b)
	return a
}

// verdictOf decodes the verdict of a map's element; those that no map of ours has as Continue.
func verdictOf(b []byte) nft.Verdict {
	v := nft.Verdict{Chain: Attribute(b, unix.NFTA_VERDICT_CHAIN).Text()}
	code := expr.VerdictKind(int32(Attribute(b, unix.NFTA_VERDICT_CODE).Uint32()))
	for _, known := range verdictCodes() {
		if known.code == code {
			v.Kind = known.kind
		}
	}
	return v
}

// packetsOf returns the packets of a counter expression; zero for others.
func packetsOf(x []byte) uint64 {
	if Attribute(x, unix.NFTA_EXPR_NAME).Text() != "counter" {
		return 0
	}
	return Attribute(Attribute(x, unix.NFTA_EXPR_DATA), unix.NFTA_COUNTER_PACKETS).Uint64()
}
