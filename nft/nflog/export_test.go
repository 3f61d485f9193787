// SPDX-License-Identifier: Apache-2.0

package nflog

// Decode decodes a packet alone.
func Decode(payload []byte, etherType uint16) (Packet, error) {
	var p Packet
	err := p.decode(payload, etherType)
	return p, err
}
