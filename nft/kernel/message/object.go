// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"strings"

	"github.com/netpold/netpold/nft"
)

// Object names the object of a refused message. offset is where in the message the fault is; 0 if not known.
func (e *Encoder) Object(m Message, offset int) string {
	op := &e.Tx.Ops[m.Op]
	if i := e.ElementOf(m, offset); i >= 0 {
		return describeElement(e.Tx, op, i)
	}
	return describe(op)
}

// ElementOf returns the index of the element of m's operation at an offset of the message, or -1.
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

// describe names an operation in an error.
func describe(op *nft.Op) string { return shorten(op.Describe()) }

// describeElement names one element of an operation in an error, as the command that would add or delete it alone.
func describeElement(tx *nft.Transaction, op *nft.Op, i int) string {
	one := *op
	one.Elements = op.Elements[i : i+1]
	single := nft.Transaction{Table: tx.Table, Ops: []nft.Op{one}}
	return shorten(strings.TrimSpace(single.String()))
}

func shorten(s string) string {
	if len(s) <= maxObject {
		return s
	}
	return s[:maxObject] + "..."
}
