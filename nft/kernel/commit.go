// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// commit sends a batch and reads the kernel's verdict. The kernel works inside the send call: when it returns, all
// answers there will ever be are in the receive buffer.
func (c *Conn) commit(e *encoder) (nft.Result, error) {
	if err := c.socket.send(e.buf); err != nil {
		if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOMEM) {
			err = refusal(err)
		}
		return nft.Result{}, err
	}
	v := verdict{encoder: e}
	for {
		n, err := c.socket.receive(c.answer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nft.Result{Deleted: v.deleted}, v.err()
		case errors.Is(err, unix.ENOBUFS):
			v.lost = true
		case err != nil:
			return nft.Result{}, fmt.Errorf("%w: %w", ErrStateUnknown, err)
		default:
			v.read(c.answer[:n])
		}
	}
}

// verdict gathers the kernel's answers to a batch.
type verdict struct {
	encoder   *encoder
	refused   *Error
	named     nft.Refused // what it says, of objects
	failure   unix.Errno  // of the batch as a whole
	lastOp    int         // that was refused
	confirmed bool
	lost      bool

	deleted map[string][]nft.Counted // that were asked to be echoed
}

// read takes a datagram of answers: NLMSG_ERROR, whose error is 0 when it only confirms, and echoes of deletions.
func (v *verdict) read(b []byte) {
	for h, body := range messages(b) {
		if h.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELSETELEM {
			v.echo(body)
			continue
		}
		index := h.Sequence - v.encoder.seq
		if h.Type != unix.NLMSG_ERROR || index >= uint32(len(v.encoder.messages)) {
			continue
		}
		m := v.encoder.messages[index]
		switch errno := errorNumber(body); {
		case errno == 0:
			v.confirmed = true
		case m.op == noOp:
			v.failure = errno
		default:
			v.refuse(m, errno, faultOffset(body))
		}
	}
}

// echo takes the kernel's copy of deleted elements, which has their counters. It has no sequence number.
func (v *verdict) echo(body []byte) {
	const generic = headerLen - unix.NLMSG_HDRLEN // length of nfgenmsg
	if len(body) < generic {
		return
	}
	attrs := body[generic:]
	name := text(attribute(attrs, unix.NFTA_SET_ELEM_LIST_SET))
	i := slices.IndexFunc(v.encoder.tx.Ops, func(op nft.Op) bool {
		return op.Verb == nft.DeleteElements && op.Set.Name == name
	})
	if i < 0 {
		return
	}
	d := elementDecoder{typ: v.encoder.tx.Ops[i].Set.Type}
	d.message(attrs)
	if v.deleted == nil {
		v.deleted = make(map[string][]nft.Counted)
	}
	v.deleted[name] = append(v.deleted[name], d.finish()...)
}

// refuse takes the refusal of a message. offset is where in the message the fault is, or 0.
func (v *verdict) refuse(m message, errno unix.Errno, offset int) {
	if cause, tells := causeOf(errno); tells {
		v.named.Add(v.encoder.tx.Ops[m.op], v.encoder.elementOf(m, offset), cause, errno)
	}
	switch {
	case v.refused == nil:
		v.refused = &Error{Object: v.encoder.object(m, offset), Errno: errno}
	case v.lastOp != m.op:
		v.refused.Others++
	}
	v.lastOp = m.op
}

// err is the outcome of the batch.
func (v *verdict) err() error {
	switch {
	case v.failure == unix.EPERM:
		return fmt.Errorf("change nf_tables: %w (it needs CAP_NET_ADMIN in the user namespace that owns the network "+
			"namespace)", v.failure)
	case v.failure != 0:
		return refusal(fmt.Errorf("commit to nf_tables: %w", v.failure))
	case v.refused != nil && len(v.named.Refusals) > 0:
		return &nft.Refused{Refusals: v.named.Refusals, Err: v.refused}
	case v.refused != nil:
		return v.refused
	case v.lost || !v.confirmed:
		return ErrStateUnknown
	}
	return nil
}

// object names what a refused message is about. offset is where in the message the fault is, or 0.
func (e *encoder) object(m message, offset int) string {
	op := &e.tx.Ops[m.op]
	if i := e.elementOf(m, offset); i >= 0 {
		return describeElement(e.tx, op, i)
	}
	return describe(op)
}

// elementOf returns the index of the element of m's operation that is at an offset of the message, or -1.
func (e *encoder) elementOf(m message, offset int) int {
	op := &e.tx.Ops[m.op]
	if offset == 0 || len(op.Elements) == 0 {
		return -1
	}
	n := binary.NativeEndian.Uint32(e.buf[m.start:])
	i := elementAt(e.buf[m.start:m.start+int(n)], offset)
	if i < 0 || m.element+i >= len(op.Elements) {
		return -1
	}
	return m.element + i
}
