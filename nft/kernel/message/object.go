// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"strings"

	"github.com/netpold/netpold/nft"
)

// ElementOf returns the index of the element of m's operation at an offset of the message, or -1. An offset of 0 is not
// known.
func (e *Encoder) ElementOf(m Message, offset int) int {
	op := &e.Tx.Ops[m.Op]
	if offset == 0 || len(op.Elements) == 0 {
		return -1
	}
	n := binary.NativeEndian.Uint32(e.Buf[m.Start:])
	i := elementAt(e.Buf[m.Start:m.Start+int(n)], offset)
	if i < 0 || m.Element+i >= len(op.Elements) {
		return -1
	}
	return m.Element + i
}

// maxObject is the length in bytes to which an object's name in an error is cut: a rule can have hundreds of ports.
const maxObject = 300

// Object names the object of an operation in an error or, unless element is negative, that element, as the command that
// would add or delete it alone.
func (e *Encoder) Object(op nft.Op, element int) string {
	text := op.Describe()
	if element >= 0 {
		op.Elements = op.Elements[element : element+1]
		alone := nft.Transaction{Table: e.Tx.Table, Ops: []nft.Op{op}}
		text = strings.TrimSpace(alone.String())
	}
	if len(text) > maxObject {
		text = text[:maxObject] + "..."
	}
	return text
}
