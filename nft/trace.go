// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
)

// Packet is the first one of a new connection as a hook sees it: the original source, and the destination after the
// destination was translated.
type Packet struct {
	Hook     Hook       // that the packet passes
	Src, Dst netip.Addr // of one family; an IPv4-mapped address is one of IPv6
	Proto    uint8      // IANA protocol number
	DstPort  uint16     // of protocols that have ports
	ICMPType uint8      // of ICMP and ICMPv6
	In, Out  string     // links; "" is not known, or none
	FromNode bool       // the source is an address of the node itself
	DNAT     bool       // the destination was another one before
}

// addr returns the address at an end.
func (p Packet) addr(side Side) netip.Addr {
	if side == Source {
		return p.Src
	}
	return p.Dst
}

// String returns the packet as "10.0.0.1 -> 10.0.0.2 tcp/80".
func (p Packet) String() string {
	return fmt.Sprintf("%s -> %s %s/%d", p.Src, p.Dst, ProtocolName(p.Proto), p.DstPort)
}

// Step is one rule that a packet matched to its end, and its verdict.
type Step struct {
	Chain    string
	Position int // of the rule in its chain, from 0
	Rule     Rule
	Verdict  Verdict

	set    *Set // of the rule's last lookup, nil without one
	found  Element
	missed []Miss
}

// Miss is a lookup that found nothing.
type Miss struct {
	Set *Set
	Key Key // of a set of intervals: the address, in Addr, or the port
}

// Finds says whether a lookup of k in a set of type t ends at the element of a key: that is k or, among intervals,
// around it.
func (t SetType) Finds(k, element Key) bool {
	switch t.Fields {
	case AddrRange:
		return bytes.Compare(element.Addr[:], k.Addr[:]) <= 0 && bytes.Compare(k.Addr[:], element.To[:]) <= 0
	case PortInterval:
		return element.Port <= k.Port && k.Port <= element.Last
	}
	return k == element
}

// Missed returns the lookups that found nothing since the step before.
func (s Step) Missed() []Miss { return s.missed }

// Element returns the element that the rule's last lookup found, in nft(8) syntax, or "" without a lookup.
func (s Step) Element() string {
	if s.set == nil {
		return ""
	}
	return s.found.Text(s.set.Type)
}

// Lookup returns the set of the rule's last lookup and the element that it found there, or nil without a lookup.
func (s Step) Lookup() (*Set, Element) { return s.set, s.found }

// Trace follows a new connection through the base chains of its hook, in the order in which the kernel runs them. It
// returns the rules that matched, and Accept, Drop, Reject or Reset. If the packet comes to a reference to a chain or
// set that is not in the table, or more than 16 chains deep, that is an error, as it would be to the kernel; the
// verdict then means nothing.
func (t *Table) Trace(p Packet) ([]Step, Verdict, error) {
	trail, err := t.Follow(p)
	return trail.Steps, trail.Verdict, err
}

// Trail is all that a packet meets in a table.
type Trail struct {
	Steps   []Step
	Verdict Verdict
	Missed  []Miss   // the lookups that found nothing since the last step
	Chains  []string // that it was in, in the order in which it came to them; one may be there twice
}

// Follow is [Table.Trace] with what the packet meets besides the rules that it matches.
func (t *Table) Follow(p Packet) (Trail, error) {
	tr := &trace{table: t, packet: p}
	verdict := Verdict{Kind: Accept}
	for _, c := range t.Chains() {
		if c.Base == nil || c.Base.Hook != p.Hook {
			continue
		}
		if v := tr.chain(c, 0); v.denies() || tr.err != nil {
			verdict = v
			break
		}
	}
	return Trail{tr.steps, verdict, tr.missed, tr.chains}, tr.err
}

// trace is one run of the interpreter.
type trace struct {
	table  *Table
	packet Packet
	steps  []Step
	err    error

	missed []Miss // since the last step
	chains []string

	// Of the rule that is evaluated:
	verdict Verdict // so far
	set     *Set    // of the last lookup that found something
	found   Element
}

// maxDepth is how many chains deep a packet may be, its base chain included: the kernel refuses a table in which jumps
// or gotos lead deeper, or in a circle (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// chain evaluates c, which is depth chains below its base chain, and returns a final verdict, or Continue at its end.
func (tr *trace) chain(c *Chain, depth int) Verdict {
	if depth == maxDepth {
		tr.err = fmt.Errorf("chain %s: more than %d chains deep", c.Name, maxDepth)
		return Verdict{}
	}
	tr.chains = append(tr.chains, c.Name)
	for i := range c.Rules {
		v := tr.rule(c, i)
		if tr.err != nil {
			return Verdict{}
		}
		switch v.Kind {
		case Accept, Drop, Reject, Reset:
			return v
		case Return:
			return Verdict{}
		case Jump, Goto:
			next := tr.table.Chain(v.Chain)
			if next == nil {
				tr.err = fmt.Errorf("chain %s: no chain %s", c.Name, v.Chain)
				return Verdict{}
			}
			if end := tr.chain(next, depth+1); end.Kind != Continue || v.Kind == Goto || tr.err != nil {
				return end
			}
		}
	}
	return Verdict{}
}

// rule evaluates the statements of the rule at position i of c and returns its verdict, or Continue.
func (tr *trace) rule(c *Chain, i int) Verdict {
	r := c.Rules[i]
	tr.verdict, tr.set = Verdict{}, nil
	for _, s := range r.Statements {
		if !s.eval(tr) {
			return Verdict{}
		}
		if tr.verdict.Kind != Continue {
			tr.steps = append(tr.steps, Step{
				Chain: c.Name, Position: i, Rule: r, Verdict: tr.verdict,
				set: tr.set, found: tr.found, missed: tr.missed,
			})
			tr.missed = nil
			return tr.verdict
		}
	}
	return Verdict{}
}

// eval says whether a new connection is meant.
func (s CtState) eval(*trace) bool { return slices.Contains(s, New) }

func (CtDNAT) eval(tr *trace) bool { return tr.packet.DNAT }

// eval is false: the first packet of a connection gives it its direction.
func (CtReply) eval(*trace) bool { return false }

func (l Lookup) eval(tr *trace) bool {
	s := tr.table.FindSet(l.Set)
	if s == nil || s.Type != l.Type {
		tr.err = fmt.Errorf("no %s %s of type %s", l.Type.keyword(), l.Set, l.Type.typeText())
		return false
	}
	if FamilyOf(tr.packet.Src) != l.Type.Family {
		return false
	}
	if !tr.lookUp(s, l.key(tr.packet)) {
		return false
	}
	if l.Type.Map {
		tr.verdict = tr.found.Verdict
	}
	return true
}

// lookUp says whether s has what a lookup of k finds, and leaves it in the trace.
func (tr *trace) lookUp(s *Set, k Key) bool {
	e, found := s.find(k)
	if !found {
		tr.missed = append(tr.missed, Miss{s, k})
		return false
	}
	tr.set, tr.found = s, e
	return true
}

// key is what the lookup loads from the packet.
func (l Lookup) key(p Packet) Key {
	one, other := p.addr(l.Side), p.addr(l.Side.Other())
	switch l.Type.Fields {
	case AddrAddr:
		return PairKey(one, other)
	case AddrProtoPort:
		return PortKey(one, p.Proto, p.DstPort)
	}
	return AddrKey(one)
}

func (p Ports) eval(tr *trace) bool { return p.Contains(tr.packet.Proto, tr.packet.DstPort) }

func (l PortLookup) eval(tr *trace) bool {
	s := tr.table.FindSet(l.Set)
	if s == nil || s.Type != l.Type() {
		tr.err = fmt.Errorf("no set %s of ports", l.Set)
		return false
	}
	if tr.packet.Proto != l.Proto || !tr.lookUp(s, Key{Port: tr.packet.DstPort}) {
		return false
	}
	if l.Map {
		tr.verdict = tr.found.Verdict
	}
	return true
}

func (NeighbourDiscovery) eval(tr *trace) bool {
	p := tr.packet
	return FamilyOf(p.Src) == IPv6 && p.Proto == ICMPv6 && FirstNDType <= p.ICMPType && p.ICMPType <= LastNDType
}

// eval is true: the interpreter has no clock, and a packet that the limit holds back is only not logged.
func (Limit) eval(*trace) bool   { return true }
func (Log) eval(*trace) bool     { return true }
func (Counter) eval(*trace) bool { return true }

func (v Verdict) eval(tr *trace) bool {
	tr.verdict = v
	return true
}
