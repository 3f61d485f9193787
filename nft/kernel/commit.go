// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sendSlack is what the kernel wants free in the send buffer besides the message.
const sendSlack = 64

// commit sends a batch and reads the kernel's verdict. The kernel works inside the send call: when it returns, all answers there
// will ever be are in the receive buffer.
func (c *Conn) commit(e *encoder) error {
	if err := c.send(e.buf); err != nil {
		return err
	}
	v := verdict{encoder: e}
	for {
		n, err := c.receive()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return v.err()
		case errors.Is(err, unix.ENOBUFS):
			v.lost = true
		case err != nil:
			return fmt.Errorf("%w: %w", ErrStateUnknown, err)
		default:
			v.read(c.answer[:n])
		}
	}
}

// send sends a batch as one datagram. An error means that the kernel has seen nothing of it.
func (c *Conn) send(b []byte) error {
	if err := c.growWriteBuffer(len(b) + sendSlack); err != nil {
		return err
	}
	var err error
	control := c.raw.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	if err = errors.Join(control, err); err != nil {
		return fmt.Errorf("send %d bytes to nf_tables: %w", len(b), err)
	}
	return nil
}

// growWriteBuffer makes the socket accept a datagram of n bytes. Beyond net.core.wmem_max that takes CAP_NET_ADMIN in the initial
// user namespace.
func (c *Conn) growWriteBuffer(n int) error {
	if n <= c.wmem {
		return nil
	}
	if err := c.conn.SetWriteBuffer(n); err != nil {
		return err
	}
	if err := c.readWriteBuffer(); err != nil {
		return err
	}
	if n > c.wmem {
		return fmt.Errorf("transaction of %d bytes, and the socket sends at most %d: "+
			"raise net.core.wmem_max or run with CAP_NET_ADMIN in the initial user namespace: %w", n, c.wmem, unix.EMSGSIZE)
	}
	return nil
}

func (c *Conn) readWriteBuffer() error {
	var err error
	c.wmem, err = c.conn.WriteBuffer()
	return err
}

// receive reads one datagram of answers, or EAGAIN when there is none.
func (c *Conn) receive() (int, error) {
	var n int
	var err error
	control := c.raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), c.answer, unix.MSG_DONTWAIT)
	})
	return n, errors.Join(control, err)
}

// verdict gathers the kernel's answers to a batch.
type verdict struct {
	encoder   *encoder
	refused   *Error
	failure   unix.Errno // of the batch as a whole
	lastOp    int        // that was refused
	confirmed bool
	lost      bool
}

// Lengths and offsets of NLMSG_ERROR, a netlink header, an error number and the header of the message that it is about.
const (
	errorNumber = unix.NLMSG_HDRLEN
	errorAttrs  = errorNumber + 4 + unix.NLMSG_HDRLEN
)

// read takes one answer: NLMSG_ERROR, with error 0 when it only confirms.
func (v *verdict) read(b []byte) {
	if len(b) < errorAttrs || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return
	}
	index := binary.NativeEndian.Uint32(b[8:]) - v.encoder.seq
	if index >= uint32(len(v.encoder.messages)) {
		return // of another batch
	}
	m := v.encoder.messages[index]
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[errorNumber:])))
	switch {
	case errno == 0:
		v.confirmed = true
	case m.op == noOp:
		v.failure = errno
	default:
		v.refuse(m, errno, faultOffset(b[errorAttrs:]))
	}
}

// refuse takes the refusal of a message. offset is where in the message the fault is, or 0.
func (v *verdict) refuse(m message, errno unix.Errno, offset int) {
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
		return fmt.Errorf("change nf_tables: %w (it takes CAP_NET_ADMIN in the user namespace of the network namespace)", v.failure)
	case v.failure != 0:
		return fmt.Errorf("commit to nf_tables: %w", v.failure)
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
	if offset == 0 || len(op.Elements) == 0 {
		return describe(op)
	}
	n := binary.NativeEndian.Uint32(e.buf[m.start:])
	i := elementAt(e.buf[m.start:m.start+int(n)], offset)
	if i < 0 || m.element+i >= len(op.Elements) {
		return describe(op)
	}
	return describeElement(e.tx, op, m.element+i)
}
