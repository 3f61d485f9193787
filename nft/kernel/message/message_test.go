// SPDX-License-Identifier: Apache-2.0

package message

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Everything that follows from a length field is in the kernel's hands or in those of whoever wrote the table.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	t := nft.NewTable("t", "")
	t.Set("s", nft.SetType{Family: nft.IPv4}, "").Want(nft.Key{Addr: [16]byte{10: 0xff, 11: 0xff, 15: 9}},
		nft.Value{Comment: "comment"})
	m := t.Set("m", nft.SetType{Family: nft.IPv6, Fields: nft.AddrRange, Map: true, Counter: true}, "set")
	m.Want(nft.Key{To: [16]byte{15: 7}}, nft.Value{Verdict: nft.JumpTo("c")})
	t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(nft.Counter{})}})
	e := &Encoder{Tx: t.Take()}
	if err := e.Encode(); err != nil {
		f.Fatal(err)
	}
	for _, m := range e.Messages {
		f.Add(e.Buf[m.Start:])
		f.Add(e.Buf[m.Start+HeaderLen:])
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		packetsOf(b)
		CommentOf(b)
		ElementTexts(b)
		normal(b)
		if len(b) >= HeaderLen {
			elementAt(b, len(b)/2)
		}
		for _, family := range nft.Families() {
			for fields := nft.Addr; fields <= nft.AddrProtoPort; fields++ {
				d := Elements{Type: nft.SetType{Family: family, Fields: fields, Map: true}}
				d.Message(b)
				d.element(b)
				d.Finish()
			}
		}
	})
}

// Encoding and decoding an element are inverse.
func FuzzElement(f *testing.F) {
	f.Add(uint8(4), uint8(0), make([]byte, 16), make([]byte, 16), uint8(6), uint16(80))
	f.Add(uint8(6), uint8(1), make([]byte, 16), []byte(strings.Repeat("\xff", 16)), uint8(6), uint16(80))
	f.Fuzz(func(t *testing.T, family, fields uint8, a, b []byte, proto uint8, port uint16) {
		typ := nft.SetType{Family: nft.IPv4, Fields: nft.Fields(fields % 4)}
		if family%2 == 0 {
			typ.Family = nft.IPv6
		}
		k := randomKey(typ, a, b, proto, port)
		tx := &nft.Transaction{Table: "t", Ops: []nft.Op{{
			Verb:     nft.AddElements,
			Set:      &nft.Set{Name: "s", Type: typ},
			Elements: []nft.Element{{Key: k, Value: nft.Value{Comment: "c"}}},
		}}}
		e := &Encoder{Tx: tx}
		if err := e.Encode(); err != nil {
			t.Skip(err)
		}
		d := Elements{Type: typ}
		for _, body := range Messages(e.Buf) {
			d.Message(body[HeaderLen-unix.NLMSG_HDRLEN:])
		}
		got := d.Finish()
		if len(got) != 1 || got[0].Element != tx.Ops[0].Elements[0] {
			t.Errorf("%+v came back as %+v", tx.Ops[0].Elements, got)
		}
	})
}

// randomKey returns a key with only those fields set that count in a set of type typ.
func randomKey(typ nft.SetType, a, b []byte, proto uint8, port uint16) nft.Key {
	address := func(b []byte) [16]byte {
		fixed := make([]byte, addrLen(typ.Family))
		copy(fixed, b)
		return addrOf(fixed)
	}
	k := nft.Key{Addr: address(a)}
	switch typ.Fields {
	case nft.AddrRange, nft.AddrAddr:
		k.To = address(b)
	case nft.AddrProtoPort:
		k.Proto, k.Port = proto, port
	}
	return k
}
