// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"slices"

	"github.com/netpold/netpold/nft"
)

// statement evaluates a statement and says whether evaluation of the rule continues. It leaves a verdict in the run.
func (tr *run) statement(s nft.Statement) bool {
	p := tr.packet
	switch s := s.(type) {
	case nft.Verdict:
		tr.step.Verdict = s
		return true
	case nft.Lookup:
		return tr.lookup(s)
	case nft.Ports:
		return s.Contains(p.Proto, p.DstPort)
	case nft.CtState:
		return slices.Contains(s, nft.New)
	case nft.CtDNAT:
		return p.DNAT
	case nft.AddrIn:
		addr := p.addr(s.Side)
		return nft.FamilyOf(addr) == nft.FamilyOf(s.Prefix.Addr()) && s.Prefix.Contains(addr) != s.Not
	case nft.LinkName:
		return s.Matches([...]string{p.In, p.Out}[s.Side])
	case nft.AddrType:
		return p.isA(s)
	case nft.NeighbourDiscovery:
		return nft.FamilyOf(p.Src) == nft.IPv6 && p.Proto == nft.ICMPv6 &&
			nft.FirstNDType <= p.ICMPType && p.ICMPType <= nft.LastNDType
	case nft.Update: // no set is full here
		return tr.set(s.Set, s.Type) != nil && nft.FamilyOf(p.Src) == s.Type.Family
	case nft.Limit, nft.Log, nft.Counter: // beyond the limit, packets are only not logged
		return true
	case nft.Opening: // the packet is the first of a connection
		return p.Proto == nft.TCP
	case nft.OfFamily:
		return nft.FamilyOf(p.Src) == s.Family
	case nft.CtReply:
		return false
	}
	tr.err = fmt.Errorf("statement %T has no interpretation", s)
	return false
}

// set returns a set of the table; a missing set, or one of another type, is an error.
func (tr *run) set(name string, t nft.SetType) *nft.Set {
	s := tr.table.FindSet(name)
	if s == nil || s.Type != t {
		tr.err = fmt.Errorf("no %s", t.Describe(name))
		return nil
	}
	return s
}

func (tr *run) lookup(l nft.Lookup) bool {
	s := tr.set(l.Set, l.Type)
	if s == nil || !loads(l, tr.packet) || tr.find(s, key(l, tr.packet)) == l.Not {
		return false
	}
	if l.Type.Map {
		tr.step.Verdict = tr.step.Found.Verdict
	}
	return true
}

// loads says whether a packet has what a lookup loads.
func loads(l nft.Lookup, p Packet) bool {
	if l.Type.OfPorts() {
		return p.Proto == l.Proto
	}
	return nft.FamilyOf(p.Src) == l.Type.Family
}

// key returns what a lookup loads from a packet.
func key(l nft.Lookup, p Packet) nft.Key {
	one, other := p.addr(l.Side), p.addr(l.Side.Other())
	switch l.Type.Fields {
	case nft.Port, nft.PortInterval:
		return nft.Key{Port: p.DstPort}
	case nft.AddrAddr:
		return nft.PairKey(one, other)
	case nft.AddrProtoPort:
		return nft.PortKey(one, p.Proto, p.DstPort)
	}
	return nft.AddrKey(one)
}

// find says whether a lookup of k finds an element of s, and leaves it in the run.
func (tr *run) find(s *nft.Set, k nft.Key) bool {
	e, found := s.Find(k)
	if !found {
		tr.Missed = append(tr.Missed, Miss{s, k})
		return false
	}
	tr.step.Set, tr.step.Found = s, e
	return true
}

// isA says whether an address is of a kind. Only the packet knows the node's own addresses; broadcast addresses are not
// known.
func (p Packet) isA(m nft.AddrType) bool {
	switch {
	case m.Kind == nft.Multicast:
		return p.addr(m.Side).IsMulticast()
	case m.Kind != nft.Local:
		return false
	case m.Side == nft.Source:
		return p.FromNode
	}
	return p.Hook == nft.Input
}
