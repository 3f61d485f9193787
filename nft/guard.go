// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// AddrIn matches a packet by one of its addresses: one in the prefix or, with Not, one of its family outside of it. The
// prefix is masked and longer than 0 bits.
type AddrIn struct {
	Side   Side
	Prefix netip.Prefix
	Not    bool
}

// String returns the match as nft(8) writes it.
func (m AddrIn) String() string {
	field := m.Side.field(FamilyOf(m.Prefix.Addr()))
	if m.Not {
		field += " !="
	}
	if m.Prefix.IsSingleIP() {
		return field + " " + m.Prefix.Addr().String()
	}
	return field + " " + m.Prefix.String()
}

// LinkName matches a packet by the link that it comes in by (Source) or goes out by (Destination): by its name or,
// before a trailing asterisk, by how the name begins. A packet to the node itself goes out by no link.
type LinkName struct {
	Side Side
	Name string
}

// String returns the match as nft(8) writes it.
func (m LinkName) String() string {
	return fmt.Sprintf("%s %q", [...]string{"iifname", "oifname"}[m.Side], m.Name)
}

// Matches says whether a link of that name is meant.
func (m LinkName) Matches(link string) bool {
	if prefix, open := strings.CutSuffix(m.Name, "*"); open {
		return link != "" && strings.HasPrefix(link, prefix)
	}
	return link == m.Name
}

// AddrType matches a packet by what one of its addresses is to the node.
type AddrType struct {
	Side Side
	Kind AddrKind
}

// AddrKind is what an address is to a node. The values are the kernel's.
type AddrKind uint8

// The kinds that rules name.
const (
	Local     AddrKind = 2 // RTN_LOCAL: the node has it
	Broadcast AddrKind = 3 // RTN_BROADCAST
	Multicast AddrKind = 5 // RTN_MULTICAST
)

// String returns the match as nft(8) writes it.
func (m AddrType) String() string {
	kinds := map[AddrKind]string{Local: "local", Broadcast: "broadcast", Multicast: "multicast"}
	return "fib " + m.Side.addr() + " type " + kinds[m.Kind]
}
