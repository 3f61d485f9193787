// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"iter"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// messages ranges over the netlink messages in b: the header and the body of each, which shares b's memory. It ends
// before one that is cut short.
func messages(b []byte) iter.Seq2[netlink.Header, []byte] {
	return func(yield func(netlink.Header, []byte) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			h := netlink.Header{
				Length:   binary.NativeEndian.Uint32(b),
				Type:     netlink.HeaderType(binary.NativeEndian.Uint16(b[4:])),
				Flags:    netlink.HeaderFlags(binary.NativeEndian.Uint16(b[6:])),
				Sequence: binary.NativeEndian.Uint32(b[8:]),
				PID:      binary.NativeEndian.Uint32(b[12:]),
			}
			if h.Length < unix.NLMSG_HDRLEN || uint64(h.Length) > uint64(len(b)) {
				return
			}
			if !yield(h, b[unix.NLMSG_HDRLEN:h.Length]) {
				return
			}
			b = b[min(align(int(h.Length)), len(b)):]
		}
	}
}

// attributes ranges over the netlink attributes in b: the type of each without its flags, and its value, which shares
// b's memory. It ends before one that is cut short.
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

// u32 and u64 return the number in an attribute; 0 if it is of another length.
func u32(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

func u64(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// text returns the string in an attribute.
func text(v []byte) string {
	if n := len(v); n > 0 && v[n-1] == 0 {
		v = v[:n-1]
	}
	return string(v)
}

// comment returns the comment in the user data of an element; "" if there is none.
func comment(data []byte) string {
	for len(data) >= 2 && len(data) >= 2+int(data[1]) {
		typ, value := data[0], data[2:2+int(data[1])]
		if typ == byte(userdata.NFTNL_UDATA_SET_ELEM_COMMENT) {
			return text(value)
		}
		data = data[2+len(value):]
	}
	return ""
}

// align rounds a length up to the 4 bytes at which attributes start.
func align(n int) int { return (n + 3) &^ 3 }

// errorNumber returns the error in the body of NLMSG_ERROR; 0 is success.
func errorNumber(body []byte) unix.Errno {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
}

// faultOffset returns the offset of the attribute at fault in a refused message, from the body of NLMSG_ERROR; 0 if it
// does not say. The body is the error, the header of the refused message, and attributes.
func faultOffset(body []byte) int {
	const attrs = 4 + unix.NLMSG_HDRLEN
	if len(body) < attrs {
		return 0
	}
	if v := attribute(body[attrs:], unix.NLMSGERR_ATTR_OFFS); len(v) == 4 {
		return int(binary.NativeEndian.Uint32(v))
	}
	return 0
}

// elementAt returns which element of the model the attribute at an offset in an element message is of, counting from
// the message's first; -1 for none. The end of an interval is of the element that starts before it.
func elementAt(msg []byte, offset int) int {
	list := attribute(msg[headerLen:], unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	pos, index := len(msg)-align(len(list)), -1 // the list is the last attribute
	for _, el := range attributes(list) {
		if pos > offset {
			break
		}
		if attribute(el, unix.NFTA_SET_ELEM_FLAGS) == nil {
			index++
		}
		pos += align(attrLen + len(el))
	}
	return index
}
