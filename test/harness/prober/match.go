// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// A match finds the sent packet for each packet that comes out.
type match struct {
	sent [][]byte
	out  []bool // which of sent came out
	next int    // where the search begins, as packets come out in order
}

// add records a packet that came out. It may not be one of those sent.
func (m *match) add(b []byte) {
	for i := range m.sent {
		at := (m.next + i) % len(m.sent)
		if !m.out[at] && forwarded(m.sent[at], b) {
			m.out[at], m.next = true, at+1
			return
		}
	}
}

// forwarded reports whether b is a after forwarding: the hop limit is one less, the IPv4 header checksum changes with
// it, conntrack gives IPv6 fragments another id, and everything else is the same.
func forwarded(a, b []byte) bool {
	if len(a) != len(b) || a[0] != b[0] {
		return false
	}
	if a[0]>>4 == 4 {
		return a[8]-1 == b[8] && bytes.Equal(a[:8], b[:8]) && a[9] == b[9] && bytes.Equal(a[12:], b[12:])
	}
	rest := 8
	if len(a) >= 48 && a[6] == unix.IPPROTO_FRAGMENT && bytes.Equal(a[8:44], b[8:44]) {
		rest = 48
	}
	return a[7]-1 == b[7] && bytes.Equal(a[:7], b[:7]) && bytes.Equal(a[rest:], b[rest:])
}
