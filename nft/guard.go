// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// AddrIn matches a packet by one of its addresses: inside the prefix or, with Not, of the prefix's family and outside
// it. The prefix is masked and longer than 0 bits.
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

// LinkName matches a packet by its input link (Source) or output link (Destination): by name or, with a trailing
// asterisk, by prefix. A packet to the node itself has no output link.
type LinkName struct {
	Side Side
	Name string
}

// String returns the match as nft(8) writes it.
func (m LinkName) String() string {
	return fmt.Sprintf("%s %q", [...]string{"iifname", "oifname"}[m.Side], m.Name)
}

// Matches says whether it matches a link of that name.
func (m LinkName) Matches(link string) bool {
	if prefix, open := strings.CutSuffix(m.Name, "*"); open {
		return link != "" && strings.HasPrefix(link, prefix)
	}
	return link == m.Name
}

// AddrType matches a packet by the type of one of its addresses, as the node sees it.
type AddrType struct {
	Side Side
	Kind AddrKind
}

// AddrKind is the type of an address, as a node sees it. The values are the kernel's.
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
