// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"net/netip"
	"slices"
	"strconv"
)

// Family is an IP version. Its value is the version's number.
type Family uint8

// The two families of an inet table.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families returns both families, to range over.
func Families() [2]Family { return [...]Family{IPv4, IPv6} }

// FamilyOf returns the family of an address as it is on the wire, where an IPv4-mapped IPv6 address is IPv6.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "4" or "6", as object names end.
func (f Family) String() string { return strconv.Itoa(int(f)) }

// protocol is nft(8)'s name of the family's header: ip or ip6.
func (f Family) protocol() string {
	if f == IPv4 {
		return "ip"
	}
	return "ip6"
}

// addrType is nft(8)'s name of the family's address type.
func (f Family) addrType() string { return "ipv" + f.String() + "_addr" }

// Outermost returns the prefixes, which must be masked, that are not inside another, in ascending order.
func Outermost(prefixes []netip.Prefix) []netip.Prefix {
	var outer []netip.Prefix
	for _, p := range slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare) {
		if n := len(outer); n == 0 || !outer[n-1].Overlaps(p) {
			outer = append(outer, p)
		}
	}
	return outer
}

// IANA protocol numbers that policies and rules name.
const (
	ICMP   uint8 = 1
	TCP    uint8 = 6
	UDP    uint8 = 17
	ICMPv6 uint8 = 58
	SCTP   uint8 = 132
)

// ProtocolName returns nft(8)'s name of an IANA protocol number, or the number itself.
func ProtocolName(proto uint8) string {
	switch proto {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "ipv6-icmp"
	case SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}
