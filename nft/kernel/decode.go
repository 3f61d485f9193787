// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// attributes ranges over the netlink attributes in b: the type of each without its flags, and its value, which shares b's memory.
// It ends before one that is cut short.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= attrLen {
			n := int(binary.NativeEndian.Uint16(b))
			if n < attrLen || n > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[attrLen:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// attribute returns the value of the first attribute of a type in b, or nil.
func attribute(b []byte, typ uint16) []byte {
	for t, value := range attributes(b) {
		if t == typ {
			return value
		}
	}
	return nil
}

// align rounds a length up to the 4 bytes at which attributes start.
func align(n int) int { return (n + 3) &^ 3 }

// faultOffset returns the offset of the attribute at fault in a refused message, from the attributes of the refusal; 0 if it is not
// in there.
func faultOffset(b []byte) int {
	if v := attribute(b, unix.NLMSGERR_ATTR_OFFS); len(v) == 4 {
		return int(binary.NativeEndian.Uint32(v))
	}
	return 0
}

// elementAt returns which element of the model the attribute at an offset in an element message is of, counting from the message's
// first; -1 for none. The end of an interval is of the element that starts before it.
func elementAt(msg []byte, offset int) int {
	pos, index := headerLen, -1
	for typ, list := range attributes(msg[headerLen:]) {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			pos += align(attrLen + len(list))
			continue
		}
		pos += attrLen
		for _, el := range attributes(list) {
			if pos > offset {
				break
			}
			if attribute(el, unix.NFTA_SET_ELEM_FLAGS) == nil {
				index++
			}
			pos += align(attrLen + len(el))
		}
		break
	}
	return index
}
