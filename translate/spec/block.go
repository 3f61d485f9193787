// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/nft"
)

// Block is a compiled ipBlock: a CIDR and its exceptions.
type Block struct {
	Family nft.Family // of the cidr as parsed; its addresses cannot tell, as IPv6 ones may look like IPv4
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// compileBlock compiles an ipBlock.
func compileBlock(b *networkingv1.IPBlock, path *field.Path) (Block, field.ErrorList) {
	cidr, ok := parseCIDR(b.CIDR)
	if !ok {
		return Block{}, field.ErrorList{field.Invalid(path.Child("cidr"), b.CIDR,
			"must be a CIDR, such as 10.9.8.0/24 or 2001:db8::/64")}
	}
	var errs field.ErrorList
	compiled := Block{Family: nft.FamilyOf(cidr.Addr()), CIDR: cidr}
	for i, text := range b.Except {
		path := path.Child("except").Index(i)
		e, ok := parseCIDR(text)
		switch {
		case !ok:
			errs = append(errs, field.Invalid(path, text, "must be a CIDR, such as 10.9.8.0/24 or 2001:db8::/64"))
		case !cidr.Contains(e.Addr()) || e.Bits() <= cidr.Bits():
			errs = append(errs, field.Invalid(path, text, "must be a strict subset of "+cidr.String()))
		default:
			compiled.Except = append(compiled.Except, e)
		}
	}
	return compiled, errs
}

// parseCIDR parses a CIDR as the API server does: leading zeros of IPv4 fields are decimal, bits beyond the mask are
// dropped, and a prefix of only IPv4-mapped addresses is the IPv4 one. One with other addresses, such as ::/0 or
// ::fffe:0:0/95, is IPv6.
func parseCIDR(text string) (netip.Prefix, bool) {
	addr, bits, found := strings.Cut(text, "/")
	if !found {
		return netip.Prefix{}, false
	}
	decimal := strings.LastIndexByte(addr, ':') + 1 // also behind ::ffff:
	if fields := strings.Split(addr[decimal:], "."); len(fields) == 4 {
		for i, f := range fields {
			fields[i] = trimZeros(f)
		}
		addr = addr[:decimal] + strings.Join(fields, ".")
	}
	p, err := netip.ParsePrefix(addr + "/" + trimZeros(bits))
	if err != nil || p.Addr().Zone() != "" {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// trimZeros removes the leading zeros of a decimal number.
func trimZeros(number string) string {
	if trimmed := strings.TrimLeft(number, "0"); trimmed != "" || number == "" {
		return trimmed
	}
	return "0"
}
