// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Statement is one part of a rule: a match, an action or a verdict. The set of statements is closed; a new one needs
// its text here, its interpretation in nft/trace and its encoding in nft/kernel.
type Statement interface {
	fmt.Stringer
	statement()
}

// CtState matches a packet whose conntrack state is one of these.
type CtState []ConnState

// ConnState is the state of a connection. The values are the kernel's bits of `ct state`.
type ConnState uint8

// The states that rules use. The interpreter follows only new connections.
const (
	Established ConnState = 2
	Related     ConnState = 4
	New         ConnState = 8
	Untracked   ConnState = 64
)

// String returns the match as nft(8) writes it.
func (s CtState) String() string {
	known := map[ConnState]string{Established: "established", Related: "related", New: "new", Untracked: "untracked"}
	names := make([]string, len(s))
	for i, state := range s {
		names[i] = known[state]
	}
	return "ct state " + strings.Join(names, ",")
}

// CtReply matches a packet in the reply direction of its connection.
type CtReply struct{}

// String returns the match as nft(8) writes it.
func (CtReply) String() string { return "ct direction reply" }

// CtDNAT matches a packet of a connection whose destination was translated, such as one to a Service.
type CtDNAT struct{}

// String returns the match as nft(8) writes it.
func (CtDNAT) String() string { return "ct status dnat" }

// OfFamily matches a packet of an IP version.
type OfFamily struct{ Family Family }

// String returns the match as nft(8) writes it.
func (m OfFamily) String() string { return "meta nfproto ipv" + m.Family.String() }

// Side is the end of a flow whose address is looked up.
type Side uint8

// The two ends.
const (
	Source Side = iota
	Destination
)

// Other returns the opposite end.
func (s Side) Other() Side { return Destination - s }

// addr is nft(8)'s name of the address.
func (s Side) addr() string { return [...]string{"saddr", "daddr"}[s] }

// field is nft(8)'s name of the address field.
func (s Side) field(f Family) string { return f.protocol() + " " + s.addr() }

// Lookup looks up one of the packet's addresses and, depending on the set's type, other fields in a set or map. In a
// set it matches if the element is there; in a map the element's verdict applies, and a miss continues with the next
// rule. In a set of ports it looks up the destination port of a packet of the protocol.
type Lookup struct {
	Side  Side  // of the address
	Proto uint8 // of a set of ports; its own
	Set   string
	Type  SetType // the set's
	Not   bool    // for a set: match if the element is not there
}

// LookupIn returns the lookup of one end of a flow in s.
func LookupIn(side Side, s *Set) Lookup { return Lookup{Side: side, Set: s.Name, Type: s.Type} }

// String returns the lookup as nft(8) writes it.
func (l Lookup) String() string {
	key := l.Side.field(l.Type.Family)
	switch l.Type.Fields {
	case Port, PortInterval:
		key = ProtocolName(l.Proto) + " dport"
	case AddrAddr:
		key += " . " + l.Side.Other().field(l.Type.Family)
	case AddrProtoPort:
		key += " . meta l4proto . th dport"
	}
	switch {
	case l.Type.Map:
		key += " vmap"
	case l.Not:
		key += " !="
	}
	return key + " @" + l.Set
}

// PortRange is the ports First to Last, both inclusive, of a protocol.
type PortRange struct {
	Proto       uint8 // IANA protocol number: TCP, UDP or SCTP
	First, Last uint16
}

// Ports matches a packet by protocol and destination port. The ranges are sorted by protocol and port and do not
// overlap; there is at least one, and if any has more than one port, all are of one protocol, see [Rules]. (nft(8)
// joins ranges that touch when it loads the text, so it lists them as one.)
type Ports []PortRange

// Contains says whether one of the ranges has the port.
func (p Ports) Contains(proto uint8, port uint16) bool {
	return slices.ContainsFunc(p, func(r PortRange) bool {
		return r.Proto == proto && r.First <= port && port <= r.Last
	})
}

// Compact sorts the ranges and joins those that overlap or touch. It reuses the slice.
func (p Ports) Compact() Ports {
	slices.SortFunc(p, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.First, b.First))
	})
	joined := p[:0]
	for _, r := range p {
		if n := len(joined); n > 0 && joined[n-1].Proto == r.Proto && int(r.First) <= int(joined[n-1].Last)+1 {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// SingleProto says whether all ranges are of one protocol.
func (p Ports) SingleProto() bool { return len(p) > 0 && p[0].Proto == p[len(p)-1].Proto }

// loadable returns matches that together match the same, each of which a rule can have: see [Rules].
func (p Ports) loadable() []Ports {
	if !slices.ContainsFunc(p, func(r PortRange) bool { return r.First != r.Last }) {
		return []Ports{p}
	}
	var all []Ports
	for _, ranges := range p.Protocols() {
		all = append(all, ranges)
	}
	return all
}

// Protocols yields the ranges of each protocol.
func (p Ports) Protocols() iter.Seq2[uint8, Ports] {
	return func(yield func(uint8, Ports) bool) {
		for rest := p; len(rest) > 0; {
			n := slices.IndexFunc(rest, func(r PortRange) bool { return r.Proto != rest[0].Proto })
			if n < 0 {
				n = len(rest)
			}
			if !yield(rest[0].Proto, rest[:n:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// WholeProto says whether p is every port of one protocol.
func (p Ports) WholeProto() bool { return len(p) == 1 && p[0].First == 0 && p[0].Last == 65535 }

// String returns the match as nft(8) writes it: the shortest form for the ranges.
func (p Ports) String() string {
	if p.WholeProto() {
		return "meta l4proto " + ProtocolName(p[0].Proto)
	}
	single := p.SingleProto()
	items := make([]string, len(p))
	for i, r := range p {
		items[i] = r.text()
		if !single {
			items[i] = ProtocolName(r.Proto) + " . " + items[i]
		}
	}
	list := strings.Join(items, ", ")
	switch {
	case single && len(p) == 1:
		return ProtocolName(p[0].Proto) + " dport " + list
	case single:
		return ProtocolName(p[0].Proto) + " dport { " + list + " }"
	}
	return "meta l4proto . th dport { " + list + " }"
}

// text writes the ports without their protocol.
func (r PortRange) text() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// NeighbourDiscovery matches the ICMPv6 messages without which an IPv6 link does not work (RFC 4861).
type NeighbourDiscovery struct{}

// ICMPv6 types of neighbour discovery, RFC 4861 section 4; they are consecutive.
const (
	FirstNDType uint8 = 133 // router solicitation
	LastNDType  uint8 = 137 // redirect
)

// String returns the match as nft(8) writes it.
func (NeighbourDiscovery) String() string {
	return "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }"
}

// Limit lets the rest of the rule see a packet at most Rate times a second, after a first Burst. Neither is zero.
type Limit struct {
	Rate  uint64 // packets a second
	Burst uint32 // packets
}

// defaultBurst is the burst of a limit that names none.
const defaultBurst = 5

// String returns the limit as nft(8) writes it.
func (l Limit) String() string {
	if l.Burst == defaultBurst {
		return fmt.Sprintf("limit rate %d/second", l.Rate)
	}
	return fmt.Sprintf("limit rate %d/second burst %d packets", l.Rate, l.Burst)
}

// Log sends the packet to a group of nfnetlink_log(7).
type Log struct {
	Prefix  string // at most [MaxComment] bytes, the kernel's own limit
	Group   uint16
	Snaplen uint32 // bytes of the packet to send
}

// String returns the log statement as nft(8) writes it.
func (l Log) String() string {
	return fmt.Sprintf("log prefix %q group %d snaplen %d", CleanComment(l.Prefix), l.Group, l.Snaplen)
}

// Counter counts the packets and bytes that reach it.
type Counter struct{}

// String returns the counter as nft(8) writes it in a ruleset to load.
func (Counter) String() string { return "counter" }

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

// Update adds the packet's flow to a dynamic set unless it is there, restarts its timeout, and counts the packet in the
// element. It matches unless the set is full.
type Update struct {
	Set  string
	Type SetType // the set's
	// Portless says that the packet has no ports: the port in the key is 0.
	Portless bool
}

// UpdateOf returns the update of s by packets with ports.
func UpdateOf(s *Set) Update { return Update{Set: s.Name, Type: s.Type} }

// String returns the update as nft(8) writes it.
func (u Update) String() string {
	f, port := u.Type.Family, "th dport"
	if u.Portless {
		port = "0"
	}
	return fmt.Sprintf("update @%s { %s . %s . meta l4proto . %s counter }", u.Set, Source.field(f),
		Destination.field(f), port)
}

// Opening matches a segment of TCP that opens a connection.
type Opening struct{}

// String returns the match as nft(8) writes it.
func (Opening) String() string { return "tcp flags syn / fin,syn,rst,ack" }

func (CtState) statement()            {}
func (CtDNAT) statement()             {}
func (CtReply) statement()            {}
func (Lookup) statement()             {}
func (Ports) statement()              {}
func (NeighbourDiscovery) statement() {}
func (Limit) statement()              {}
func (Log) statement()                {}
func (Counter) statement()            {}
func (Verdict) statement()            {}
func (AddrIn) statement()             {}
func (LinkName) statement()           {}
func (AddrType) statement()           {}
func (Update) statement()             {}
func (Opening) statement()            {}
func (OfFamily) statement()           {}
