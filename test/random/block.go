// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft"
)

// ipBlock returns a block that is likely to overlap, contain or touch another.
func (g *Generator) ipBlock() *networkingv1.IPBlock {
	if g.bad(5) {
		return &networkingv1.IPBlock{CIDR: pick(g.r, "", "10.0.0.0", "10.0.0.0/33", "10.0.0/24", "fd00::/129", "fe80::1%eth0/64", "x/8")}
	}
	cidr := g.prefix()
	b := &networkingv1.IPBlock{CIDR: g.cidrText(cidr)}
	switch {
	case g.bad(5):
		b.Except = []string{pick(g.r, "11.0.0.0/8", "fc00::/128", "nonsense", b.CIDR)}
	case cidr.Bits() == cidr.Addr().BitLen() || g.chance(45):
	case g.chance(15): // nothing is left: both halves
		half := netip.PrefixFrom(cidr.Addr(), cidr.Bits()+1)
		other := netip.PrefixFrom(nft.LastAddr(half).Next(), cidr.Bits()+1)
		b.Except = []string{half.String(), other.String()}
	default:
		for range 1 + g.few(3) {
			b.Except = append(b.Except, g.cidrText(g.inside(cidr)))
		}
	}
	return b
}

// prefix returns a prefix around an address of the pods' pool, or at an end of the address space.
func (g *Generator) prefix() netip.Prefix {
	if g.chance(35) {
		bits := pick(g.r, 0, 1, 8, 32, 63, 64, 65, 112, 119, 120, 121, 126, 127, 128, 128)
		a := pick(g.r, g.pods[1]...)
		if g.chance(20) {
			a = pick(g.r, addrs("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:ffff", "fd00::")...)
		}
		return netip.PrefixFrom(a, bits).Masked()
	}
	bits := pick(g.r, 0, 1, 8, 15, 16, 23, 24, 24, 25, 26, 28, 29, 30, 31, 32, 32)
	a := pick(g.r, g.pods[0]...)
	if g.chance(20) {
		a = pick(g.r, addrs("0.0.0.0", "255.255.255.255", "10.0.0.0", "9.255.255.255")...)
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// inside returns a prefix strictly inside of one that is not a single address: at its bottom, at its top, or in between.
func (g *Generator) inside(p netip.Prefix) netip.Prefix {
	length := p.Addr().BitLen()
	bits := min(length, p.Bits()+1+pick(g.r, 0, 0, 1, 2, 7, length))
	at := pick(g.r, p.Addr(), nft.LastAddr(p))
	family := 0
	if length == 128 {
		family = 1
	}
	if a := pick(g.r, g.pods[family]...); p.Contains(a) && g.chance(60) {
		at = a
	}
	return netip.PrefixFrom(at, bits).Masked()
}

// cidrText writes a prefix in one of the ways that the API server takes: also with bits behind the mask, with leading zeros, and an
// IPv4 one as IPv4-mapped.
func (g *Generator) cidrText(p netip.Prefix) string {
	switch {
	case g.chance(15):
		p = netip.PrefixFrom(nft.LastAddr(p), p.Bits())
	case p.Addr().Is4() && g.chance(5):
		return fmt.Sprintf("::ffff:%s/%d", p.Addr(), p.Bits()+96)
	case p.Addr().Is4() && g.chance(3):
		return "0" + strings.ReplaceAll(p.String(), ".", ".0")
	}
	return p.String()
}
