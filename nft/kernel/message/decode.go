// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"iter"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Messages ranges over the netlink messages in b: the type and sequence number from the header of each, and its body,
// which shares b's memory. It ends before one that is cut short.
func Messages(b []byte) iter.Seq2[unix.NlMsghdr, []byte] {
	return func(yield func(unix.NlMsghdr, []byte) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			h := unix.NlMsghdr{Type: binary.NativeEndian.Uint16(b[4:]), Seq: binary.NativeEndian.Uint32(b[8:])}
			n := binary.NativeEndian.Uint32(b)
			if n < unix.NLMSG_HDRLEN || uint64(n) > uint64(len(b)) {
				return
			}
			if !yield(h, b[unix.NLMSG_HDRLEN:n]) {
				return
			}
			b = b[min(align(int(n)), len(b)):]
		}
	}
}

// Value is what an attribute holds.
type Value []byte

// Attributes ranges over the netlink attributes in b: the type of each without its flags, and its value, which shares
// b's memory. It ends before one that is cut short.
func Attributes(b []byte) iter.Seq2[uint16, Value] {
	return func(yield func(uint16, Value) bool) {
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

// Attribute returns the value of the first attribute of a type in b, or nil.
func Attribute(b []byte, typ uint16) Value {
	for t, value := range Attributes(b) {
		if t == typ {
			return value
		}
	}
	return nil
}

// Uint32 returns the number in the attribute; 0 if its length is wrong.
func (v Value) Uint32() uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// Uint64 returns the number in the attribute; 0 if its length is wrong.
func (v Value) Uint64() uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// Text returns the string in the attribute.
func (v Value) Text() string {
	if n := len(v); n > 0 && v[n-1] == 0 {
		v = v[:n-1]
	}
	return string(v)
}

// CommentOf returns the comment in the user data of a table or an element; "" if there is none. Package userdata panics
// if the data is cut short (github.com/google/nftables/pull/359).
func CommentOf(data []byte) string {
	for len(data) >= 2 && len(data) >= 2+int(data[1]) {
		typ, value := data[0], data[2:2+int(data[1])]
		if typ == byte(userdata.NFTNL_UDATA_SET_ELEM_COMMENT) {
			return Value(value).Text()
		}
		data = data[2+len(value):]
	}
	return ""
}

// align rounds a length up to the 4 bytes at which attributes start.
func align(n int) int { return (n + 3) &^ 3 }

// ErrorNumber returns the error in the body of NLMSG_ERROR; 0 is success.
func ErrorNumber(body []byte) unix.Errno {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
}

// FaultOffset returns the offset of the attribute at fault in a refused message, from the body of NLMSG_ERROR; 0 if it
// has none. The body is the error, the header of the refused message, and attributes.
func FaultOffset(body []byte) int {
	const attrs = 4 + unix.NLMSG_HDRLEN
	if len(body) < attrs {
		return 0
	}
	if v := Attribute(body[attrs:], unix.NLMSGERR_ATTR_OFFS); len(v) == 4 {
		return int(binary.NativeEndian.Uint32(v))
	}
	return 0
}

// elementAt returns the index of the model's element that an offset in an element message belongs to, counting from the
// message's first; -1 for none. The end of an interval belongs to the element that starts it.
func elementAt(msg []byte, offset int) int {
	list := Attribute(msg[HeaderLen:], unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	pos, index := len(msg)-align(len(list)), -1 // the list is the last attribute
	for _, el := range Attributes(list) {
		if pos > offset {
			break
		}
		if Attribute(el, unix.NFTA_SET_ELEM_FLAGS) == nil {
			index++
		}
		pos += align(attrLen + len(el))
	}
	return index
}
