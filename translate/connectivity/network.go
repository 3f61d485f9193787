// SPDX-License-Identifier: Apache-2.0

package connectivity

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

// compareSpans orders spans by their first address, those of IPv4 first.
func compareSpans(a, b Span) int { return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last)) }

// family is a family of addresses.
type family uint8

const (
	ipv4 family = 4
	ipv6 family = 6
)

func families() [2]family { return [...]family{ipv4, ipv6} }

// familyOf returns the family of an address as it is on the wire, where an IPv4-mapped one is of IPv6.
func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// wholeFamily returns every address of a family.
func wholeFamily(f family) Span { return spanOf(netip.PrefixFrom(anyAddress(f), 0)) }

func anyAddress(f family) netip.Addr {
	if f == ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func spanOf(p netip.Prefix) Span { return Span{p.Masked().Addr(), lastAddr(p)} }

// lastAddr returns the last address of a network.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Contains says whether an address is in the set.
func (n Networks) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(s Span) bool { return !a.Less(s.First) && !s.Last.Less(a) })
}

// cutAt returns the spans of a family that begin at some addresses, which it sorts, each up to the next.
func cutAt(f family, begins []netip.Addr) []Span {
	slices.SortFunc(begins, netip.Addr.Compare)
	begins = slices.Compact(begins)
	spans := make([]Span, len(begins))
	for i, first := range begins {
		spans[i] = Span{first, wholeFamily(f).Last}
		if i > 0 {
			spans[i-1].Last = first.Prev()
		}
	}
	return spans
}

// union returns the addresses of all spans.
func union(spans ...Span) Networks {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, compareSpans)
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

// without returns the addresses of the span that are not in n.
func (s Span) without(n Networks) Networks {
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

// key returns what is equal for equal sets alone.
func (n Networks) key() string {
	key := make([]byte, 0, 2*len(n)*17)
	for _, s := range n {
		first, last := s.First.As16(), s.Last.As16()
		key = append(append(append(key, byte(familyOf(s.First))), first[:]...), last[:]...)
	}
	return string(key)
}

// Prefixes returns the fewest prefixes that have exactly the addresses of the set.
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

// family returns the part of the set that is of a family.
func (n Networks) in(f family) Networks {
	var part Networks
	for _, s := range n {
		if familyOf(s.First) == f {
			part = append(part, s)
		}
	}
	return part
}

// String returns the set as CIDRs, or where that is shorter, as an ipBlock says it: "0.0.0.0/0 except 10.0.0.0/8".
func (n Networks) String() string {
	var parts []string
	for _, f := range families() {
		if part := n.in(f); len(part) > 0 {
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
	holes := spanOf(cover).without(n).Prefixes()
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

// opening is what is open to the addresses of a span.
type opening struct {
	Span
	ports portsID
}

// at returns what is open to an address; the openings are those of its family, without gaps.
func at(openings []opening, a netip.Addr) portsID {
	i, _ := slices.BinarySearchFunc(openings, a, func(o opening, a netip.Addr) int { return o.Last.Compare(a) })
	return openings[i].ports
}
