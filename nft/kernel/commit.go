// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// commit sends a batch and reads the kernel's verdict. The kernel works inside the send call: when it returns, all
// answers are in the receive buffer.
func (c *Conn) commit(e *message.Encoder) (nft.Result, error) {
	if err := c.socket.send(e.Buf); err != nil {
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
	encoder   *message.Encoder
	named     nft.Refused // refusals that say something about objects
	first     error       // the first refusal of an operation
	others    int         // operations refused after it
	lastOp    int         // the last refused one
	failure   unix.Errno  // of the whole batch
	confirmed bool
	lost      bool

	deleted map[string][]nft.Counted // elements echoed on request
}

// read takes a datagram of answers: NLMSG_ERROR, with error 0 for an acknowledgement, and echoes of deletions.
func (v *verdict) read(b []byte) {
	for h, body := range message.Messages(b) {
		if h.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELSETELEM {
			v.echo(body)
			continue
		}
		index := h.Seq - v.encoder.Seq
		if h.Type != unix.NLMSG_ERROR || index >= uint32(len(v.encoder.Messages)) {
			continue
		}
		m := v.encoder.Messages[index]
		switch errno := message.ErrorNumber(body); {
		case errno == 0:
			v.confirmed = true
		case m.Op == message.NoOp:
			v.failure = errno
		default:
			v.refuse(m, errno, message.FaultOffset(body))
		}
	}
}

// echo takes the kernel's copy of deleted elements, with their counters. It has no sequence number.
func (v *verdict) echo(body []byte) {
	if len(body) < message.GenericLen {
		return
	}
	attrs := body[message.GenericLen:]
	name := message.Attribute(attrs, unix.NFTA_SET_ELEM_LIST_SET).Text()
	i := slices.IndexFunc(v.encoder.Tx.Ops, func(op nft.Op) bool {
		return op.Verb == nft.DeleteElements && op.Set.Name == name
	})
	if i < 0 {
		return
	}
	d := message.Elements{Type: v.encoder.Tx.Ops[i].Set.Type}
	d.Message(attrs)
	if v.deleted == nil {
		v.deleted = make(map[string][]nft.Counted)
	}
	v.deleted[name] = append(v.deleted[name], d.Finish()...)
}

// refuse takes the refusal of a message. offset is where in the message the fault is; 0 if not known.
func (v *verdict) refuse(m message.Message, errno unix.Errno, offset int) {
	op, element := v.encoder.Tx.Ops[m.Op], v.encoder.ElementOf(m, offset)
	if cause, tells := causeOf(errno); tells {
		v.named.Add(op, element, cause, errno)
	}
	switch {
	case v.first == nil:
		v.first = fmt.Errorf("%s: %w", v.encoder.Object(op, element), errno)
		if errno == unix.EPERM { // a lack of privileges would refuse the whole batch, not an operation
			v.first = fmt.Errorf("%w (%w)", v.first, ErrOwned)
		}
	case v.lastOp != m.Op:
		v.others++
	}
	v.lastOp = m.Op
}

// err is the outcome of the batch.
func (v *verdict) err() error {
	switch {
	case v.failure == unix.EPERM:
		return fmt.Errorf("change nf_tables: %w (it needs CAP_NET_ADMIN in the user namespace that owns the network "+
			"namespace)", v.failure)
	case v.failure != 0:
		return refusal(fmt.Errorf("commit to nf_tables: %w", v.failure))
	case v.first != nil:
		err := v.first
		if v.others > 0 {
			err = fmt.Errorf("%w, and %d more operations refused", err, v.others)
		}
		if len(v.named.Refusals) > 0 {
			return &nft.Refused{Refusals: v.named.Refusals, Err: err}
		}
		return err
	case v.lost || !v.confirmed:
		return ErrStateUnknown
	}
	return nil
}
