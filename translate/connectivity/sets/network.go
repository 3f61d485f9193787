// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Networks is a set of addresses: spans that are sorted, disjoint and merged. The zero value is empty.
type Networks []Span

// Span is the addresses from First to Last, of one family.
type Span struct{ First, Last netip.Addr }

// CompareSpans orders spans by their first address, those of IPv4 first.
func CompareSpans(a, b Span) int { return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last)) }

// Family is a family of addresses.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	ipv6 Family = 6
)

// Families returns both families.
func Families() [2]Family { return [...]Family{IPv4, ipv6} }

// FamilyOf returns the family of an address as it is on the wire, where an IPv4-mapped one is IPv6.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return ipv6
}

// WholeFamily returns every address of a family.
func WholeFamily(f Family) Span { return SpanOf(netip.PrefixFrom(anyAddress(f), 0)) }

func anyAddress(f Family) netip.Addr {
	if f == ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// SpanOf returns the addresses of a network.
func SpanOf(p netip.Prefix) Span { return Span{p.Masked().Addr(), lastAddr(p)} }

// lastAddr returns the last address of a network.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i = i&^7 + 8 {
		b[i/8] |= 0xff >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Contains says whether an address is in the set.
func (n Networks) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(s Span) bool { return !a.Less(s.First) && !s.Last.Less(a) })
}

// CutAt cuts a family at some addresses, which it sorts, and returns the spans, each up to the next.
func CutAt(f Family, begins []netip.Addr) []Span {
	slices.SortFunc(begins, netip.Addr.Compare)
	begins = slices.Compact(begins)
	spans := make([]Span, len(begins))
	for i, first := range begins {
		spans[i] = Span{first, WholeFamily(f).Last}
		if i > 0 {
			spans[i-1].Last = first.Prev()
		}
	}
	return spans
}

// Union returns the addresses of all spans.
func Union(spans ...Span) Networks {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, CompareSpans)
	var merged Networks
	for _, s := range spans {
		if i := len(merged) - 1; i >= 0 && (!merged[i].Last.Less(s.First) || merged[i].Last.Next() == s.First) {
			if merged[i].Last.Less(s.Last) {
				merged[i].Last = s.Last
			}
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// Without returns the addresses of the span that are not in n.
func (s Span) Without(n Networks) Networks {
	var rest Networks
	next := s.First
	for _, hole := range n {
		if hole.Last.Less(next) || s.Last.Less(hole.First) {
			continue
		}
		if next.Less(hole.First) {
			rest = append(rest, Span{next, hole.First.Prev()})
		}
		if next = hole.Last.Next(); !next.IsValid() {
			return rest
		}
	}
	if next.IsValid() && !s.Last.Less(next) {
		rest = append(rest, Span{next, s.Last})
	}
	return rest
}

// Key returns a key that is equal only for equal sets.
func (n Networks) Key() string {
	key := make([]byte, 0, 2*len(n)*17)
	for _, s := range n {
		first, last := s.First.As16(), s.Last.As16()
		key = append(append(append(key, byte(FamilyOf(s.First))), first[:]...), last[:]...)
	}
	return string(key)
}

// Prefixes returns the smallest list of prefixes with exactly the addresses of the set.
func (n Networks) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range n {
		for at := s.First; at.IsValid() && !s.Last.Less(at); {
			bits := at.BitLen()
			for bits > 0 {
				wider := netip.PrefixFrom(at, bits-1)
				if wider.Masked().Addr() != at || s.Last.Less(lastAddr(wider)) {
					break
				}
				bits--
			}
			p := netip.PrefixFrom(at, bits)
			all = append(all, p)
			at = lastAddr(p).Next()
		}
	}
	return all
}

// In returns the part of the set in a family.
func (n Networks) In(f Family) Networks {
	var part Networks
	for _, s := range n {
		if FamilyOf(s.First) == f {
			part = append(part, s)
		}
	}
	return part
}

// String returns the set as CIDRs or, if shorter, like an ipBlock: "0.0.0.0/0 except 10.0.0.0/8".
func (n Networks) String() string {
	var parts []string
	for _, f := range Families() {
		if part := n.In(f); len(part) > 0 {
			parts = append(parts, part.text())
		}
	}
	return strings.Join(parts, ", ")
}

// text is String for the addresses of one family.
func (n Networks) text() string {
	plain := n.Prefixes()
	cover := plain[0]
	for last := n[len(n)-1].Last; !cover.Contains(last); {
		cover = netip.PrefixFrom(cover.Addr(), cover.Bits()-1).Masked()
	}
	holes := SpanOf(cover).Without(n).Prefixes()
	if len(holes)+1 < len(plain) {
		return cover.String() + " except " + joinPrefixes(holes)
	}
	return joinPrefixes(plain)
}

func joinPrefixes(all []netip.Prefix) string {
	text := make([]string, len(all))
	for i, p := range all {
		text[i] = p.String()
	}
	return strings.Join(text, ", ")
}

// Meets says whether any address of a span is in the set.
func (n Networks) Meets(s Span) bool {
	return slices.ContainsFunc(n, func(t Span) bool {
		return FamilyOf(s.First) == FamilyOf(t.First) && !s.Last.Less(t.First) && !t.Last.Less(s.First)
	})
}
