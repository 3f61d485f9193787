// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	headerLen = 20     // nlmsghdr and nfgenmsg
	attrLen   = 4      // nlattr
	maxAttr   = 0xffff // bytes of an attribute with its header: the length field has 16 bits

	// maxElements is the size in bytes at which a list of elements is continued in another message. It leaves room in
	// maxAttr for one element more, whose names and comment are at most some hundred bytes.
	maxElements = 60000
)

// batch is the messages of one transaction in one buffer. Each has a sequence number of its own, by which the kernel's
// answers tell which one they are about.
//
// Writing cannot fail, except that an attribute may become too long for its length field: err keeps the first such
// failure, and a batch that has one must not be sent.
type batch struct {
	buf      []byte
	messages []message
	seq      uint32 // of the first message
	err      error
}

// message says what one message of a batch is about.
type message struct {
	start   int // offset in the buffer
	op      int // index of the transaction's operation, or noOp
	element int // of element messages: index of the first element in the operation
}

// noOp is the operation of the messages that begin and end a batch.
const noOp = -1

// begin and end are the messages around the operations.
func (b *batch) begin() { b.frame(unix.NFNL_MSG_BATCH_BEGIN) }
func (b *batch) end()   { b.frame(unix.NFNL_MSG_BATCH_END) }

func (b *batch) frame(typ uint16) {
	m := message{start: len(b.buf), op: noOp}
	b.header(typ, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.finish(m)
}

// command appends an nf_tables message about m's operation, with the attributes that body appends.
func (b *batch) command(m message, typ, flags uint16, body func()) {
	m.start = len(b.buf)
	b.header(unix.NFNL_SUBSYS_NFTABLES<<8|typ, unix.NLM_F_REQUEST|flags, unix.NFPROTO_INET, 0)
	body()
	b.finish(m)
}

// header appends the headers of netlink and of nfnetlink.
func (b *batch) header(typ, flags uint16, family byte, resource uint16) {
	b.buf = append(b.buf, 0, 0, 0, 0) // the length, see finish
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, flags)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, b.seq+uint32(len(b.messages)))
	b.buf = append(b.buf, 0, 0, 0, 0) // the port: the kernel knows
	b.buf = append(b.buf, family, unix.NFNETLINK_V0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, resource)
}

// finish sets the length of the message.
func (b *batch) finish(m message) {
	binary.NativeEndian.PutUint32(b.buf[m.start:], uint32(len(b.buf)-m.start))
	b.messages = append(b.messages, m)
}

// acknowledge asks for an answer to the last message in any case, so that silence is not mistaken for success.
func (b *batch) acknowledge() {
	flags := b.buf[b.messages[len(b.messages)-1].start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// attr appends an attribute.
func (b *batch) attr(typ uint16, data []byte) {
	start := b.open(typ)
	b.buf = append(b.buf, data...)
	b.close(start)
}

// str appends an attribute that holds a string.
func (b *batch) str(typ uint16, s string) {
	start := b.open(typ)
	b.buf = append(b.buf, s...)
	b.buf = append(b.buf, 0)
	b.close(start)
}

// u32 appends an attribute that holds a number.
func (b *batch) u32(typ uint16, v uint32) {
	start := b.open(typ)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
	b.close(start)
}

// nest appends an attribute that holds the attributes that body appends.
func (b *batch) nest(typ uint16, body func()) {
	start := b.open(typ | nested)
	body()
	b.close(start)
}

// open appends the header of an attribute and returns its offset; close sets its length and pads it.
func (b *batch) open(typ uint16) int {
	start := len(b.buf)
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	return start
}

func (b *batch) close(start int) {
	n := len(b.buf) - start
	if n > maxAttr {
		b.fail(fmt.Errorf("netlink attribute of %d bytes, more than %d", n, maxAttr))
	}
	binary.NativeEndian.PutUint16(b.buf[start:], uint16(n))
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// fail keeps the first error.
func (b *batch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
