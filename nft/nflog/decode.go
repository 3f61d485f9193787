// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Packet is what a rule logged.
type Packet struct {
	Prefix string // of the rule, at most 127 bytes

	// Src and Dst are of the same family, as on the wire: an IPv4-mapped address belongs to an IPv6 packet, and is
	// nobody's IPv4 address.
	Src, Dst netip.Addr

	// Proto is the IANA protocol number after extension headers, as `meta l4proto` matches it: with AH, AH's own.
	Proto uint8

	SrcPort, DstPort   uint16 // of TCP, UDP and SCTP
	ICMPType, ICMPCode uint8  // of ICMP in IPv4 and ICMPv6 in IPv6
	TCPFlags           uint8  // FIN, SYN and so on

	// Fragment says that this is a fragment other than the first, which has no ports, type or flags.
	Fragment bool

	// Truncated says that the bytes end before the ports, type or flags, which are then zero. Either the kernel did not
	// copy more, or there is no more. If they end within an extension header, Proto is that header's.
	Truncated bool

	// Undecodable says that this is not an IP packet, or too little of one to have addresses. Only the prefix is set.
	Undecodable bool
}

// TCP flags.
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
)

const (
	ipv4Header = 20 // bytes without options
	ipv6Header = 40
)

// decode sets the fields from the addresses on, which are zero before, from the first bytes of an IP packet of whatever
// origin; etherType is unix.ETH_P_IP or ETH_P_IPV6. It neither keeps them nor allocates.
func (p *Packet) decode(b []byte, etherType uint16) {
	switch {
	case etherType == unix.ETH_P_IP && len(b) >= ipv4Header && b[0]>>4 == 4 && b[0]&0xf >= ipv4Header/4:
		p.decodeIPv4(b)
	case etherType == unix.ETH_P_IPV6 && len(b) >= ipv6Header && b[0]>>4 == 6:
		p.decodeIPv6(b)
	default:
		p.Undecodable = true
	}
}

func (p *Packet) decodeIPv4(b []byte) {
	header := int(b[0]&0xf) * 4
	p.Src = netip.AddrFrom4([4]byte(b[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	p.Proto = b[9]
	p.Fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	// The length is 0 in a packet beyond 64 KiB, which segmentation offload makes (Linux 6.3).
	if total := int(binary.BigEndian.Uint16(b[2:])); total != 0 {
		b = b[:min(total, len(b))]
	}
	p.decodeTransport(b[min(header, len(b)):])
}

func (p *Packet) decodeIPv6(b []byte) {
	p.Src = netip.AddrFrom16([16]byte(b[8:24]))
	p.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	p.Proto = b[6]
	payload := b[ipv6Header:]
	if n := int(binary.BigEndian.Uint16(b[4:])); n != 0 { // as in IPv4
		payload = payload[:min(n, len(payload))]
	}
	p.decodeTransport(p.skipExtensions(payload))
}

// skipExtensions returns what follows the IPv6 extension headers at the start of b, and sets the protocol accordingly.
// It skips the headers that the kernel skips (ipv6_ext_hdr), which are 8 bytes or longer, except AH, where nf_tables
// stops.
func (p *Packet) skipExtensions(b []byte) []byte {
	for {
		length := 8
		switch p.Proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(b) >= 2 {
				length += 8 * int(b[1])
			}
		case unix.IPPROTO_FRAGMENT:
			if len(b) >= 4 {
				p.Fragment = binary.BigEndian.Uint16(b[2:])&^7 != 0
			}
		default:
			return b
		}
		if len(b) < 4 {
			p.Truncated = true
			return nil
		}
		p.Proto = b[0]
		b = b[min(length, len(b)):]
		if p.Fragment {
			return nil // what follows is not a header, whatever its number
		}
	}
}

// decodeTransport decodes the start of the transport header.
func (p *Packet) decodeTransport(b []byte) {
	if p.Fragment || p.Truncated {
		return
	}
	switch {
	case p.Proto == nft.TCP, p.Proto == nft.UDP, p.Proto == nft.SCTP:
		if len(b) < 4 {
			p.Truncated = true
			return
		}
		p.SrcPort = binary.BigEndian.Uint16(b)
		p.DstPort = binary.BigEndian.Uint16(b[2:])
		if p.Proto != nft.TCP {
			return
		}
		p.Truncated = len(b) < 14
		if !p.Truncated {
			p.TCPFlags = b[13]
		}
	case p.Proto == nft.ICMP && p.Src.Is4(), p.Proto == nft.ICMPv6 && p.Src.Is6():
		p.Truncated = len(b) < 2
		if !p.Truncated {
			p.ICMPType, p.ICMPCode = b[0], b[1]
		}
	}
}
