// SPDX-License-Identifier: Apache-2.0

package nflog

// Decode decodes a single packet.
func Decode(payload []byte, etherType uint16) (p Packet) {
	p.decode(payload, etherType)
	return p
}

// Shrink makes the kernel's queue short.
func (r *Reader) Shrink() error { return r.conn.SetReadBuffer(64 << 10) }
