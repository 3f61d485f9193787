// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"fmt"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Class is what a list does with addresses that the same rules match.
type Class struct {
	Verdict nft.Verdict // equal for classes that do the same
	part    *part       // where the verdict leads; nil: nowhere
}

// class returns what the list does with one address: that of a pod with these ports that these rules (by index) match
// as a peer, in that set of networks.
func (l *List) class(pod []int, set int, ports []policy.NamedPort) Class {
	return l.ports(l.matches(pod, set, ports))
}

// everywhere is the class of a pod's addresses in any networks: it looks up in which.
type everywhere struct {
	Class
	verdicts []nft.Verdict // of the class in each set of networks; the last is for addresses in none
}

// at returns the verdict for addresses in a set of networks, or nowhere.
func (e everywhere) at(set int) nft.Verdict {
	if set == nowhere {
		set = len(e.verdicts) - 1
	}
	return e.verdicts[set]
}

// everywhere returns the class of all addresses of pods that these rules match and that have no named ports.
func (l *List) everywhere(pod []int) everywhere {
	rest := l.class(pod, nowhere, nil)
	classes := make([]Class, len(l.sets))
	var verdicts []nft.Verdict
	for set := range l.sets {
		classes[set] = l.class(pod, set, nil)
		verdicts = append(verdicts, classes[set].Verdict)
	}
	verdicts = append(verdicts, rest.Verdict)
	p := &part{}
	for _, f := range nft.Families() {
		m := &verdictMap{typ: nft.SetType{Family: f, Fields: nft.AddrRange, Map: true}}
		for _, n := range l.networks[f] {
			if c := classes[n.set]; c.Verdict != rest.Verdict {
				m.addNetwork(n.Piece, c.Verdict)
				p.need(c)
			}
		}
		if len(m.elements) > 0 {
			m.name = fmt.Sprintf("%snetworks-%s-%s", l.prefix(), m.hash(), f)
			p.addMap(m, nft.Lookup{Side: frame.PeerSide(l.Direction), Set: m.name, Type: m.typ})
		}
	}
	if len(p.maps) == 0 {
		return everywhere{rest, verdicts}
	}
	p.need(rest)
	return everywhere{l.end(p, rest.Verdict), verdicts}
}

// prefix begins the names of everything made for the list.
func (l *List) prefix() string { return l.Tier.Prefix(l.Direction) }

// end makes the class of a part that has all its rules except for the rest.
func (l *List) end(p *part, rest nft.Verdict) Class {
	p.rules = withRest(p.rules, rest)
	fields := make([]string, len(p.rules))
	for i, r := range p.rules {
		fields[i] = r.String()
	}
	p.name = l.prefix() + "class-" + nft.Hash(fields...)
	return Class{nft.GotoChain(p.name), p}
}

// withRest appends the rule for what the rules of a chain do not decide.
func withRest(rules []nft.Rule, rest nft.Verdict) []nft.Rule {
	if rest.Kind != nft.Return {
		rules = append(rules, nft.R(rest))
	}
	return rules
}

// ports returns what a list does with an address, by port, given the matching rules.
func (l *List) ports(matches []match) Class {
	rest := Class{Verdict: l.none()}
	for i, m := range matches {
		if m.ports.Every {
			rest = l.leaf(m.rule)
			matches = matches[:i]
			break
		}
	}
	p := &part{}
	var intervals []interval
	for _, in := range first(matches) {
		c := l.leaf(in.rule)
		if c.Verdict == rest.Verdict {
			continue
		}
		p.need(c)
		in.verdict = c.Verdict
		if n := len(intervals) - 1; n >= 0 && intervals[n].joins(in) {
			intervals[n].Last = in.Last
			continue
		}
		intervals = append(intervals, in)
	}
	p.need(rest)
	ranges, single := oneVerdict(intervals)
	switch {
	case len(intervals) == 0:
		return rest
	case single && opening.Inline(spec.Ports{Ranges: ranges}):
		p.rules = nft.Rules(ranges, intervals[0].verdict)
	default:
		for _, of := range ranges.Protocols() {
			l.portMaps(p, intervals[:len(of)])
			intervals = intervals[len(of):]
		}
	}
	return l.end(p, rest.Verdict)
}

// maxAsked is how many intervals of ports of a protocol a class asks one after the other: as many take the kernel as
// long as a lookup among intervals.
const maxAsked = 3

// oneVerdict returns the ports of intervals, and whether all have the same verdict.
func oneVerdict(intervals []interval) (ports nft.Ports, one bool) {
	one = true
	for _, in := range intervals {
		ports = append(ports, in.PortRange)
		one = one && in.verdict == intervals[0].verdict
	}
	return ports, one
}

// muchMore is how many single ports there are for each range if they are looked up for themselves. The kernel finds
// one in a quarter of the time that it takes to find it among intervals, but looks up twice then.
const muchMore = 4

// portMaps adds maps of intervals of one protocol, or rules for a few.
func (l *List) portMaps(p *part, intervals []interval) {
	if len(intervals) <= maxAsked {
		for _, in := range intervals {
			p.rules = append(p.rules, nft.R(nft.Ports{in.PortRange}, in.verdict))
		}
		return
	}
	var ports, ranges []interval
	for _, in := range intervals {
		if in.First == in.Last {
			ports = append(ports, in)
		} else {
			ranges = append(ranges, in)
		}
	}
	if len(ports) < muchMore*len(ranges) {
		ports, ranges = nil, intervals
	}
	l.portMap(p, nft.SetType{Fields: nft.Port, Map: true, Size: uint32(len(ports))}, ports)
	l.portMap(p, nft.SetType{Fields: nft.PortInterval, Map: true}, ranges)
}

// portMap adds a map of a type of intervals of one protocol, if there are any.
func (l *List) portMap(p *part, t nft.SetType, intervals []interval) {
	if len(intervals) == 0 {
		return
	}
	m, kind := &verdictMap{typ: t}, "ports"
	for _, in := range intervals {
		k := nft.Key{Port: in.First}
		if t.Interval() {
			k, kind = nft.IntervalKey(in.First, in.Last), "ranges"
		}
		m.elements = append(m.elements, nft.Element{Key: k, Value: nft.Value{Verdict: in.verdict}})
	}
	proto := intervals[0].Proto
	m.name = fmt.Sprintf("%s%s-%s-%s", l.prefix(), kind, m.hash(), nft.ProtocolName(proto))
	p.addMap(m, nft.Lookup{Proto: proto, Set: m.name, Type: t})
}

// leaf returns the class of a rule that matches every port.
func (l *List) leaf(rule int) Class {
	c := Class{Verdict: l.verdict(rule)}
	if l.rules[rule].Action == spec.Deny {
		ref := l.ref(rule)
		c.part = &part{name: ref.Chain(), rules: l.frame.Tail(ref), comment: fmt.Sprintf("%s: %s, %s rule %d denies",
			l.Tier.Title(), ref.Policy, l.Direction, ref.Index+1)}
	}
	return c
}
