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
		return &networkingv1.IPBlock{CIDR: pick(g.r, "", "10.0.0.0", "10.0.0.0/33", "10.0.0/24", "fd00::/129",
			"fe80::1%eth0/64", "x/8")}
	}
	if g.chance(20) {
		return g.edgeBlock()
	}
	cidr := g.prefix()
	b := &networkingv1.IPBlock{CIDR: g.cidrText(cidr)}
	switch {
	case g.bad(5):
		b.Except = []string{pick(g.r, "11.0.0.0/8", "fc00::/128", "::ffff:0:0/96", "nonsense", b.CIDR)}
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

// prefix returns a prefix around an address of the pods' pool or of the edges of its family.
func (g *Generator) prefix() netip.Prefix {
	family, edges := 0, edgesIPv4()
	bits := pick(g.r, 0, 1, 8, 15, 16, 23, 24, 24, 25, 26, 28, 29, 30, 31, 32, 32)
	if g.chance(40) {
		family, edges = 1, edgesIPv6()
		bits = pick(g.r, 0, 1, 8, 32, 63, 64, 65, 79, 80, 81, 94, 95, 95, 96, 96, 97, 112, 119, 120, 121,
			126, 127, 128, 128)
	}
	a := pick(g.r, g.pods[family]...)
	if g.chance(35) {
		a = pick(g.r, edges...)
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// edgesIPv4 are addresses at the edges of the family.
func edgesIPv4() []netip.Addr {
	return addrs("0.0.0.0", "255.255.255.255", "10.0.0.0", "9.255.255.255", "127.255.255.255", "128.0.0.0")
}

// edgesIPv6 are addresses at the edges of the family, and of its ranges with embedded IPv4 addresses: IPv4-compatible,
// IPv4-mapped and NAT64.
func edgesIPv6() []netip.Addr {
	return addrs("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::", "::1:0:0", "::ffff:ffff", "::10.0.0.1",
		"::fffd:ffff:ffff", "::fffe:0:0", "::fffe:7fff:ffff", "::fffe:8000:0", "::fffe:ffff:ffff", "::ffff:0.0.0.0",
		"::ffff:10.0.0.1",
		"::ffff:255.255.255.255", "::1:0:0:0", "64:ff9b::", "64:ff9b::10.0.0.1", "64:ff9b::ffff:ffff", "64:ff9b::1:0:0")
}

// edgeBlock returns a block at the edges of a family, with excepts that are there, too.
func (g *Generator) edgeBlock() *networkingv1.IPBlock {
	b := &networkingv1.IPBlock{CIDR: pick(g.r, "0.0.0.0/0", "0.0.0.0/0", "::/0", "::/0", "::/0", "::/64",
		"::/80", "::/96",
		"::ffff:0:0/95", "::ffff:0:0/96", "::fffe:0:0/96", "::1:0:0:0/96", "64:ff9b::/64", "64:ff9b::/96")}
	cidr := netip.MustParsePrefix(b.CIDR)
	for _, text := range []string{
		"0.0.0.0/32", "255.255.255.255/32", "10.0.0.0/8", "::/128", "::/96",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
		"::fffe:0:0/95", "::fffe:0:0/96", "::fffe:8000:0/97", "::fffe:ffff:ffff/128", "::1:0:0:0/96", "64:ff9b::/96",
		"64:ff9b::/128",
	} {
		if p := netip.MustParsePrefix(text); cidr.Bits() < p.Bits() && cidr.Contains(p.Addr()) && g.chance(25) {
			b.Except = append(b.Except, text)
		}
	}
	return b
}

// blocks returns peers that meet: everything of both families, or blocks that follow each other without a gap.
func (g *Generator) blocks() []networkingv1.NetworkPolicyPeer {
	var peers []networkingv1.NetworkPolicyPeer
	add := func(p netip.Prefix) {
		b := &networkingv1.IPBlock{CIDR: p.String()}
		if p.Bits() < p.Addr().BitLen() && g.chance(40) {
			b.Except = []string{g.inside(p).String()}
		}
		peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: b})
	}
	switch {
	case g.chance(30):
		add(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		add(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
		return peers
	case g.chance(30):
		for range 2 + g.few(2) {
			peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: g.edgeBlock()})
		}
		return peers
	}
	for p := g.prefix(); p.Addr().IsValid() && len(peers) < 3; {
		add(p)
		p = netip.PrefixFrom(nft.LastAddr(p).Next(), min(p.Bits()+g.few(2), p.Addr().BitLen()))
	}
	return peers
}

// inside returns a prefix strictly inside p, which is not a single address: at its bottom, its top, or in between.
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
	if a := pick(g.r, edgesIPv6()...); p.Contains(a) && g.chance(40) {
		at = a
	}
	inner := netip.PrefixFrom(at, bits).Masked()
	if inner.Addr().Is4In6() && bits >= 96 && !p.Addr().Is4In6() { // would become an IPv4 prefix
		b := at.As16()
		b[11] = 0xfe
		inner = netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked()
	}
	return inner
}

// cidrText formats a prefix in one of the ways that the API server accepts: also with bits after the mask, with leading
// zeros, and IPv4 as IPv4-mapped.
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
