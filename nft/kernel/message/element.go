// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// maxKey is the length of the longest key: two IPv6 addresses, a protocol and a port.
const maxKey = 40

// elements encodes
//
//	add element inet netpold s { 10.0.0.1 . tcp . 80 comment "...", 10.0.0.2 . udp . 53 }
//	delete element inet netpold m { 10.0.0.0/8 }
//
// in as many messages as it takes. Adding an existing element is refused, not ignored: otherwise the kernel would keep
// one end for two intervals that end together, and deleting the first would leave the other open to the top of the
// address space. The kernel then also refuses most overlaps, but not that of an interval without an end, see AppendEnd:
// keeping intervals disjoint is up to the model.
func (e *Encoder) elements(op *nft.Op) {
	typ, flags := uint16(unix.NFT_MSG_NEWSETELEM), uint16(unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if op.Verb == nft.DeleteElements {
		typ, flags = unix.NFT_MSG_DELSETELEM, 0
		if op.Set.Type.Counter {
			flags = unix.NLM_F_ECHO // of their counters
		}
	}
	e.list(elementList{typ: typ, flags: flags, set: op.Set.Name, n: len(op.Elements)}, func(i int) {
		if e.modelElement(op, &op.Elements[i]); e.err != nil && e.bad < 0 {
			e.bad = i
		}
	})
}

// elementList is an operation on elements of one set.
type elementList struct {
	typ, flags uint16 // of the messages
	set        string
	id         uint32 // of a set without a name yet; otherwise 0
	n          int    // of elements
}

// list appends the messages of a list; one appends its i-th element.
func (e *Encoder) list(l elementList, one func(i int)) {
	for i := 0; i < l.n; {
		first := i
		e.about(l.typ, l.flags, l.set, func() {
			if l.id != 0 {
				e.U32(unix.NFTA_SET_ELEM_LIST_SET_ID, l.id)
			}
			e.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for start := len(e.Buf); i < l.n && len(e.Buf)-start < maxElements; i++ {
					one(i)
				}
			})
		})
		e.Messages[len(e.Messages)-1].Element = first
	}
}

// modelElement appends one element of the model, which in an interval set is two of the kernel's: start and end.
func (e *Encoder) modelElement(op *nft.Op, el *nft.Element) {
	var buf [maxKey]byte
	key, err := AppendKey(buf[:0], op.Set.Type, &el.Key)
	if err != nil {
		e.fail(err)
		return
	}
	e.Element(Element{Key: key}, func() {
		if op.Verb == nft.AddElements {
			e.value(op.Set.Type, &el.Value)
		}
	})
	if !op.Set.Type.Interval() {
		return
	}
	key, err = AppendEnd(buf[:0], op.Set.Type, &el.Key)
	if err != nil {
		e.fail(err)
		return
	}
	if len(key) > 0 {
		e.Element(Element{Key: key, Flags: unix.NFT_SET_ELEM_INTERVAL_END}, func() {})
	}
}

// Element is an element in the kernel's form.
type Element struct {
	Key   []byte
	Flags uint32
}

// Element appends an element with the attributes that body adds to its key.
func (b *Batch) Element(el Element, body func()) {
	b.Nest(unix.NFTA_LIST_ELEM, func() {
		if el.Flags != 0 {
			b.U32(unix.NFTA_SET_ELEM_FLAGS, el.Flags)
		}
		b.Nest(unix.NFTA_SET_ELEM_KEY, func() { b.Attr(unix.NFTA_DATA_VALUE, el.Key) })
		body()
	})
}

// value appends the value of an element of a set of type t.
func (e *Encoder) value(t nft.SetType, v *nft.Value) {
	if t.Map {
		e.elementVerdict(v.Verdict)
	}
	if v.Comment != "" {
		e.elementComment(v.Comment)
	}
}

// elementVerdict appends the verdict of a verdict map's element.
func (e *Encoder) elementVerdict(v nft.Verdict) {
	kind, err := verdictKind(v)
	if err != nil {
		e.fail(err)
		return
	}
	e.Nest(unix.NFTA_SET_ELEM_DATA, func() {
		e.Nest(unix.NFTA_DATA_VERDICT, func() {
			e.U32(unix.NFTA_VERDICT_CODE, uint32(kind))
			if v.Chain != "" {
				e.Str(unix.NFTA_VERDICT_CHAIN, v.Chain)
			}
		})
	})
}

// elementComment appends the comment of an element, which the model has cleaned and truncated.
func (e *Encoder) elementComment(text string) {
	start := e.open(unix.NFTA_SET_ELEM_USERDATA)
	e.Buf = append(e.Buf, byte(userdata.NFTNL_UDATA_SET_ELEM_COMMENT), byte(len(text)+1))
	e.Buf = append(e.Buf, text...)
	e.Buf = append(e.Buf, 0)
	e.close(start)
	if len(text) > nft.MaxComment {
		e.fail(fmt.Errorf("comment of %d bytes, more than %d", len(text), nft.MaxComment))
	}
}

// verdictCode is the kernel's number of a verdict.
type verdictCode struct {
	kind nft.VerdictKind
	code expr.VerdictKind
}

// verdictCodes returns the verdicts that a map can have; the others are statements of their own.
func verdictCodes() [6]verdictCode {
	return [...]verdictCode{
		{nft.Continue, expr.VerdictContinue}, {nft.Accept, expr.VerdictAccept}, {nft.Drop, expr.VerdictDrop},
		{nft.Jump, expr.VerdictJump}, {nft.Goto, expr.VerdictGoto}, {nft.Return, expr.VerdictReturn},
	}
}

// verdictKind returns the kernel's number of a verdict.
func verdictKind(v nft.Verdict) (expr.VerdictKind, error) {
	for _, known := range verdictCodes() {
		if known.kind == v.Kind {
			return known.code, nil
		}
	}
	return 0, fmt.Errorf("%s is not a verdict that a map can have", v)
}

// AppendKey appends the key of an element to b as the kernel compares it: the parts in network byte order, each padded
// to 4 bytes at its end. For an interval, that is the first address or port.
func AppendKey(b []byte, t nft.SetType, k *nft.Key) ([]byte, error) {
	if t.OfPorts() {
		return binary.BigEndian.AppendUint16(b, k.Port), nil
	}
	b, err := appendAddr(b, t.Family, &k.Addr)
	if err == nil && (t.Fields == nft.AddrAddr || t.Fields == nft.Flow) {
		b, err = appendAddr(b, t.Family, &k.To)
	}
	if err != nil {
		return nil, err
	}
	switch t.Fields {
	case nft.AddrProtoPort, nft.Flow:
		b = append(b, k.Proto, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, k.Port)
		b = append(b, 0, 0)
	}
	return b, nil
}

// AppendEnd appends the key of the element that ends an interval, which is the first address or port after it. For an
// interval up to the top, which has no end, it appends nothing.
func AppendEnd(b []byte, t nft.SetType, k *nft.Key) ([]byte, error) {
	if bytes.Compare(k.To[:], k.Addr[:]) < 0 || k.Last < k.Port && t.Fields == nft.PortInterval {
		return nil, errors.New("interval ends before it starts")
	}
	n := len(b)
	b, err := AppendKey(b, t, &nft.Key{Addr: k.To, Port: k.Last})
	if err != nil {
		return nil, err
	}
	for i := len(b) - 1; i >= n; i-- {
		b[i]++
		if b[i] != 0 {
			return b, nil
		}
	}
	return b[:n], nil
}

// appendAddr appends an address in the length of its family.
func appendAddr(b []byte, f nft.Family, a *[16]byte) ([]byte, error) {
	if f == nft.IPv6 {
		return append(b, a[:]...), nil
	}
	addr := netip.AddrFrom16(*a)
	if !addr.Is4In6() {
		return nil, fmt.Errorf("%s is not an IPv4 address", addr)
	}
	return append(b, a[12:]...), nil
}
