// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Lengths of the headers of a message: nfgenmsg, and nlmsghdr with nfgenmsg.
const (
	GenericLen = 4
	HeaderLen  = unix.NLMSG_HDRLEN + GenericLen
)

const (
	attrLen = 4      // nlattr
	maxAttr = 0xffff // bytes of an attribute with its header: the length field has 16 bits

	// maxElements is the size in bytes at which a list of elements continues in another message. It leaves room in
	// maxAttr for one more element, whose names and comment take at most a few hundred bytes.
	maxElements = 60000
)

// Batch holds the messages of one transaction in one buffer. Each has its own sequence number, which the kernel's
// answers refer to.
//
// Writing cannot fail, except that an attribute may become too long for its length field: err keeps the first such
// failure, and a batch that has one must not be sent.
type Batch struct {
	Buf      []byte
	Messages []Message
	Seq      uint32 // of the first message
	err      error
}

// Message says what one message of a batch is about.
type Message struct {
	Start   int // offset in the buffer
	Op      int // index of the transaction's operation, or noOp
	Element int // of element messages: index of the first element in the operation
}

// NoOp is the operation of the messages that begin and end a batch.
const NoOp = -1

// Begin appends the message before the operations.
func (b *Batch) Begin() { b.frame(unix.NFNL_MSG_BATCH_BEGIN) }

// End appends the message after the operations.
func (b *Batch) End() { b.frame(unix.NFNL_MSG_BATCH_END) }

func (b *Batch) frame(typ uint16) {
	m := Message{Start: len(b.Buf), Op: NoOp}
	b.header(typ, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.finish(m)
}

// Command appends an nf_tables message about m's operation, with the attributes that body appends.
func (b *Batch) Command(m Message, typ, flags uint16, body func()) {
	m.Start = len(b.Buf)
	b.header(unix.NFNL_SUBSYS_NFTABLES<<8|typ, unix.NLM_F_REQUEST|flags, unix.NFPROTO_INET, 0)
	body()
	b.finish(m)
}

// Names appends the names of a table and of a chain or set in it, those of them that are not "", to a message of
// nf_tables of a type.
func (b *Batch) Names(typ uint16, table, name string) {
	attr := uint16(unix.NFTA_SET_NAME) // the same number in rules and lists of elements
	switch typ {
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_DELCHAIN:
		attr = unix.NFTA_CHAIN_NAME
	}
	if table != "" {
		b.Str(unix.NFTA_TABLE_NAME, table) // the same number in all messages
	}
	if name != "" {
		b.Str(attr, name)
	}
}

// header appends the headers of netlink and of nfnetlink.
func (b *Batch) header(typ, flags uint16, family byte, resource uint16) {
	b.Buf = append(b.Buf, 0, 0, 0, 0) // the length, set by finish
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, typ)
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, flags)
	b.Buf = binary.NativeEndian.AppendUint32(b.Buf, b.Seq+uint32(len(b.Messages)))
	b.Buf = append(b.Buf, 0, 0, 0, 0) // the port: the kernel fills it in
	b.Buf = append(b.Buf, family, unix.NFNETLINK_V0)
	b.Buf = binary.BigEndian.AppendUint16(b.Buf, resource)
}

// finish sets the length of the message.
func (b *Batch) finish(m Message) {
	binary.NativeEndian.PutUint32(b.Buf[m.Start:], uint32(len(b.Buf)-m.Start))
	b.Messages = append(b.Messages, m)
}

// Acknowledge requests an answer to the last message even on success, so that silence is not mistaken for success.
func (b *Batch) Acknowledge() {
	flags := b.Buf[b.Messages[len(b.Messages)-1].Start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// Attr appends an attribute.
func (b *Batch) Attr(typ uint16, data []byte) {
	start := b.open(typ)
	b.Buf = append(b.Buf, data...)
	b.close(start)
}

// Str appends an attribute that holds a string.
func (b *Batch) Str(typ uint16, s string) {
	start := b.open(typ)
	b.Buf = append(b.Buf, s...)
	b.Buf = append(b.Buf, 0)
	b.close(start)
}

// U32 appends an attribute that holds a number.
func (b *Batch) U32(typ uint16, v uint32) {
	start := b.open(typ)
	b.Buf = binary.BigEndian.AppendUint32(b.Buf, v)
	b.close(start)
}

// Nest appends an attribute that holds the attributes that body appends.
func (b *Batch) Nest(typ uint16, body func()) {
	start := b.open(typ | unix.NLA_F_NESTED)
	body()
	b.close(start)
}

// open appends the header of an attribute and returns its offset; close sets its length and pads it.
func (b *Batch) open(typ uint16) int {
	start := len(b.Buf)
	b.Buf = append(b.Buf, 0, 0)
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, typ)
	return start
}

func (b *Batch) close(start int) {
	n := len(b.Buf) - start
	if n > maxAttr {
		b.fail(fmt.Errorf("netlink Attribute of %d bytes, more than %d", n, maxAttr))
	}
	binary.NativeEndian.PutUint16(b.Buf[start:], uint16(n))
	for len(b.Buf)%4 != 0 {
		b.Buf = append(b.Buf, 0)
	}
}

// fail keeps the first error.
func (b *Batch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
