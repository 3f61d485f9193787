// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Fields says what the key of a set or map is made of.
type Fields uint8

// The keys that a table uses. Addresses are never in a concatenated interval: deleting one element from one of 10,000
// of those costs the kernel milliseconds, and overlaps are silently accepted.
const (
	Addr          Fields = iota // ip saddr
	AddrRange                   // ip saddr, an interval: Key.Addr to Key.To, both inclusive
	AddrAddr                    // ip saddr . ip daddr: Key.Addr and Key.To
	AddrProtoPort               // ip saddr . meta l4proto . th dport
	PortInterval                // th dport, an interval: Key.Port to Key.Last, both inclusive; of no family
	Port                        // th dport: Key.Port; of no family
	Flow                        // ip saddr . ip daddr . meta l4proto . th dport, of dynamic sets
)

// SetType is the type of a set or, with Map, of a verdict map.
type SetType struct {
	Family  Family
	Fields  Fields
	Map     bool   // elements carry verdicts
	Counter bool   // each element counts the packets that match it
	Size    uint32 // room for elements, which the kernel then finds sooner; 0: it grows
	Dynamic Dynamic
}

// Dynamic makes a set with keys of [Flow] one that packets add elements to, by an [Update]. These elements exist only
// in the kernel: the table wants none. Every other set has the zero value.
type Dynamic struct {
	Max     uint32 // elements; beyond it packets add none
	Timeout uint32 // seconds that an element stays after the last packet with its key; not 0
}

// declaration is its lines in the set's block.
func (d Dynamic) declaration() []string {
	if d == (Dynamic{}) {
		return nil
	}
	return []string{fmt.Sprintf("size %d", d.Max), "flags dynamic,timeout", "timeout " + secondsText(d.Timeout)}
}

// secondsText writes a time as nft(8) does.
func secondsText(n uint32) string {
	var b strings.Builder
	for _, unit := range []struct {
		seconds uint32
		name    string
	}{{24 * 60 * 60, "d"}, {60 * 60, "h"}, {60, "m"}, {1, "s"}} {
		if n >= unit.seconds {
			fmt.Fprintf(&b, "%d%s", n/unit.seconds, unit.name)
			n %= unit.seconds
		}
	}
	return b.String()
}

// Key is the key of an element of a set. The set's [Fields] say which fields count; the others are zero.
type Key struct {
	Addr  [16]byte // an IPv4 address in its IPv4-mapped form
	To    [16]byte // AddrRange: the last address; AddrAddr and Flow: the second address
	Proto uint8    // IANA protocol number
	Port  uint16   // host byte order
	Last  uint16   // PortInterval: the last port
}

// AddrKey returns the key of an address alone.
func AddrKey(a netip.Addr) Key { return Key{Addr: a.As16()} }

// PairKey returns the key of two addresses: an interval from a to b, or their concatenation.
func PairKey(a, b netip.Addr) Key { return Key{Addr: a.As16(), To: b.As16()} }

// PortKey returns the key of an address, a protocol and a destination port.
func PortKey(a netip.Addr, proto uint8, port uint16) Key {
	return Key{Addr: a.As16(), Proto: proto, Port: port}
}

// IntervalKey returns the key of an interval of ports, both inclusive.
func IntervalKey(first, last uint16) Key { return Key{Port: first, Last: last} }

// Value is the rest of an element, besides its key.
type Value struct {
	Verdict Verdict // of a map's element; zero in sets
	Comment string  // at most [MaxComment] bytes; [Set.Want] cuts longer ones
}

// Interval says whether the keys are intervals.
func (t SetType) Interval() bool { return t.Fields == AddrRange || t.Fields == PortInterval }

// OfPorts says whether keys are ports alone, and of no family.
func (t SetType) OfPorts() bool { return t.Fields == PortInterval || t.Fields == Port }

// room returns the size that a set needs for n elements; 0 if it grows.
func (t SetType) room(n int) uint32 {
	if n <= int(t.Size) || t.Size == 0 {
		return t.Size
	}
	return uint32(2 * n)
}

// Element is one element of a set or map.
type Element struct {
	Key
	Value
}

// Set is a named set, or a verdict map, of a table; [Table.Set] makes it. Its elements may be edited until the table
// deletes it.
type Set struct {
	Name    string
	Type    SetType
	Comment string

	table    *Table
	elements elements
	wanted   bool // false: must be deleted from the kernel
	dirty    bool // in the table's list of dirty sets

	listed  bool         // in the waiting list of the table
	retired uint64       // the transaction that removed what led to it; 0: not retired
	late    map[Key]late // what the kernel holds in place of what is wanted
}

// Want makes the set hold k with v. The caller keeps the wanted intervals of an interval set disjoint.
func (s *Set) Want(k Key, v Value) {
	v.Comment = CleanComment(v.Comment)
	s.elements.set(k, v)
	s.table.touch(s)
}

// Unwant makes the set not hold k.
func (s *Set) Unwant(k Key) {
	s.elements.unset(k)
	s.table.touch(s)
}

// Len returns the number of wanted elements.
func (s *Set) Len() int { return s.elements.len() }

// Get returns what is wanted at k.
func (s *Set) Get(k Key) (Value, bool) { return s.elements.get(k) }

// All yields the wanted elements, in no order.
func (s *Set) All() iter.Seq2[Key, Value] { return s.elements.all() }

// Elements returns the wanted elements, sorted by key.
func (s *Set) Elements() []Element {
	all := make([]Element, 0, s.Len())
	for k, v := range s.elements.all() {
		all = append(all, Element{k, v})
	}
	sortElements(all)
	return all
}

func sortElements(all []Element) {
	slices.SortFunc(all, func(a, b Element) int { return a.compare(b.Key) })
}

func (k Key) compare(o Key) int {
	if c := bytes.Compare(k.Addr[:], o.Addr[:]); c != 0 { // usually enough
		return c
	}
	return cmp.Or(
		bytes.Compare(k.To[:], o.To[:]),
		cmp.Compare(k.Proto, o.Proto),
		cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.Last, o.Last))
}

// Find returns the element that a lookup of k in the set finds: k itself or, among intervals, the one around it.
func (s *Set) Find(k Key) (Element, bool) {
	if !s.Type.Interval() {
		v, ok := s.Get(k)
		return Element{k, v}, ok
	}
	for have, v := range s.elements.all() {
		if s.Type.Finds(k, have) {
			return Element{have, v}, true
		}
	}
	return Element{}, false
}

// Finds says whether a lookup of k in a set of type t finds the element at a key: that is k or, among intervals, around
// it.
func (t SetType) Finds(k, element Key) bool {
	switch t.Fields {
	case AddrRange:
		return bytes.Compare(element.Addr[:], k.Addr[:]) <= 0 && bytes.Compare(k.Addr[:], element.To[:]) <= 0
	case PortInterval:
		return element.Port <= k.Port && k.Port <= element.Last
	}
	return k == element
}

// keyText returns the key as nft(8) writes it in a set of type t.
func (k Key) keyText(t SetType) string {
	first, last := netip.AddrFrom16(k.Addr), netip.AddrFrom16(k.To)
	if t.Family == IPv4 {
		first, last = first.Unmap(), last.Unmap()
	}
	switch t.Fields {
	case AddrRange:
		return rangeText(first, last)
	case AddrAddr:
		return addrText(first) + " . " + addrText(last)
	case PortInterval:
		return PortRange{First: k.Port, Last: k.Last}.text()
	case Port:
		return fmt.Sprint(k.Port)
	case AddrProtoPort:
		return fmt.Sprintf("%s . %s . %d", addrText(first), ProtocolName(k.Proto), k.Port)
	}
	return addrText(first)
}

// addrText writes an address as nft(8) does, by inet_ntop(3): unlike [netip.Addr.String], that writes ::1.2.3.4 for
// ::102:304.
func addrText(a netip.Addr) string {
	b := a.As16()
	if a.Is6() && [12]byte(b[:12]) == [12]byte{} && (b[12] != 0 || b[13] != 0) {
		return "::" + netip.AddrFrom4([4]byte(b[12:])).String()
	}
	return a.String()
}

// rangeText writes an interval as nft(8) does: as an address or a prefix if it is one.
func rangeText(first, last netip.Addr) string {
	if first == last {
		return addrText(first)
	}
	for bits := 0; bits < first.BitLen(); bits++ {
		p := netip.PrefixFrom(first, bits)
		if p.Masked() == p && LastAddr(p) == last {
			return fmt.Sprintf("%s/%d", addrText(first), bits)
		}
	}
	return addrText(first) + "-" + addrText(last)
}

// LastAddr returns the highest address in p, or the zero Addr if p is not valid.
func LastAddr(p netip.Prefix) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Text returns the element as nft(8) writes it.
func (e Element) Text(t SetType) string {
	var b strings.Builder
	b.WriteString(e.keyText(t))
	if t.Counter {
		b.WriteString(" counter")
	}
	if e.Comment != "" {
		fmt.Fprintf(&b, " comment %q", e.Comment)
	}
	if t.Map {
		b.WriteString(" : " + e.Verdict.String())
	}
	return b.String()
}

// typeText is what follows "type" in the declaration of a set of type t.
func (t SetType) typeText() string {
	text := t.Family.addrType()
	switch t.Fields {
	case PortInterval, Port:
		text = "inet_service"
	case AddrAddr:
		text += " . " + t.Family.addrType()
	case Flow:
		text += " . " + t.Family.addrType() + " . inet_proto . inet_service"
	case AddrProtoPort:
		text += " . inet_proto . inet_service"
	}
	if t.Map {
		text += " : verdict"
	}
	return text
}

// keyword is nft(8)'s word for an object of type t.
func (t SetType) keyword() string {
	if t.Map {
		return "map"
	}
	return "set"
}

// MaxComment is the longest comment that `nft -f` loads (the kernel takes more).
const MaxComment = 127

// CleanComment makes s fit for a comment or a log prefix: nft(8) has no way to write a quote or a control character
// inside a string.
func CleanComment(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if len(clean) > MaxComment {
		clean = clean[:MaxComment-3] + "..."
	}
	return clean
}

// Describe names a set of the type in an error, such as "map m of type ipv4_addr : verdict".
func (t SetType) Describe(name string) string {
	return t.keyword() + " " + name + " of type " + t.typeText()
}
