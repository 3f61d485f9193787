// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/netpold/netpold/translate/policy"
)

// Ports is a set of ports of protocols that have ports, and of other protocols such as ICMP. Equal sets have the same
// form. The zero value is empty. It is immutable.
type Ports struct {
	others bool        // all protocols without ports; policies allow all of them or none
	ranges []portRange // sorted, disjoint and merged
}

// portRange is a range of ports of one protocol. The first may be 0, which a rule for every port of a protocol matches,
// too.
type portRange struct {
	proto       uint8
	first, last uint16
}

// WithPorts are the protocols that a policy can name.
func WithPorts() [3]uint8 { return [...]uint8{policy.TCP, policy.UDP, policy.SCTP} }

// Everything is what a rule without ports opens.
func Everything() Ports {
	p := Ports{others: true}
	for _, proto := range WithPorts() {
		p.ranges = append(p.ranges, portRange{proto, 0, 65535})
	}
	slices.SortFunc(p.ranges, compareRanges)
	return p
}

func compareRanges(a, b portRange) int {
	return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
}

// AppendRange adds ports to a set under construction; a union with any set normalizes it.
func (p *Ports) AppendRange(proto uint8, first, last uint16) {
	p.ranges = append(p.ranges, portRange{proto, first, last})
}

// Empty says whether nothing is in the set.
func (p Ports) Empty() bool { return !p.others && len(p.ranges) == 0 }

// All says whether everything is in the set.
func (p Ports) All() bool { return p.Equal(Everything()) }

// Equal says whether two sets are the same.
func (p Ports) Equal(q Ports) bool { return p.others == q.others && slices.Equal(p.ranges, q.ranges) }

// Contains says whether a protocol, by its IANA number, is in the set; for TCP, UDP and SCTP, with that port.
func (p Ports) Contains(proto uint8, port uint16) bool {
	known := WithPorts()
	if !slices.Contains(known[:], proto) {
		return p.others
	}
	return slices.ContainsFunc(p.ranges, func(r portRange) bool {
		return r.proto == proto && r.first <= port && port <= r.last
	})
}

// Union returns what is in either set.
func (p Ports) Union(q Ports) Ports {
	return Ports{p.others || q.others, merged(slices.Concat(p.ranges, q.ranges))}
}

// merged returns ranges in the form that equal sets share. It changes all.
func merged(all []portRange) []portRange {
	slices.SortFunc(all, compareRanges)
	merged := all[:0]
	for _, r := range all {
		if n := len(merged); n > 0 && merged[n-1].proto == r.proto && int(r.first) <= int(merged[n-1].last)+1 {
			merged[n-1].last = max(merged[n-1].last, r.last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Intersect returns what is in both sets.
func (p Ports) Intersect(q Ports) Ports {
	both := Ports{others: p.others && q.others}
	for i, j := 0, 0; i < len(p.ranges) && j < len(q.ranges); {
		a, b := p.ranges[i], q.ranges[j]
		if first, last := max(a.first, b.first), min(a.last, b.last); a.proto == b.proto && first <= last {
			both.ranges = append(both.ranges, portRange{a.proto, first, last})
		}
		if cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.last, b.last)) < 0 {
			i++
		} else {
			j++
		}
	}
	return both
}

// Minus returns what is in p and not in q.
func (p Ports) Minus(q Ports) Ports { return p.Intersect(q.complement()) }

// complement returns what is not in the set.
func (p Ports) complement() Ports {
	rest := Ports{others: !p.others}
	for _, whole := range Everything().ranges {
		next := 0 // the first port that may be missing
		for _, r := range p.ranges {
			if r.proto != whole.proto {
				continue
			}
			if int(r.first) > next {
				rest.ranges = append(rest.ranges, portRange{r.proto, uint16(next), r.first - 1})
			}
			next = int(r.last) + 1
		}
		if next <= 65535 {
			rest.ranges = append(rest.ranges, portRange{whole.proto, uint16(next), 65535})
		}
	}
	return rest
}

// String returns the set for an operator: "TCP 80, 8000-8010; UDP 53", "all", "all but TCP 22" or "none".
func (p Ports) String() string {
	switch {
	case p.Empty():
		return "none"
	case p.All():
		return "all"
	case p.others && len(p.complement().ranges) > 0:
		return "all but " + Ports{ranges: p.complement().ranges}.String()
	}
	var text strings.Builder
	for i, r := range p.ranges {
		switch {
		case i > 0 && r.proto == p.ranges[i-1].proto:
			text.WriteString(", ")
		case i > 0:
			text.WriteString("; ")
			fallthrough
		default:
			text.WriteString(protocolName(r.proto) + " ")
		}
		text.WriteString(r.text())
	}
	return text.String()
}

func (r portRange) text() string {
	switch {
	case r.first <= 1 && r.last == 65535:
		return "any"
	case r.first == r.last:
		return fmt.Sprint(r.first)
	}
	return fmt.Sprintf("%d-%d", r.first, r.last)
}

func protocolName(proto uint8) string {
	return map[uint8]string{policy.TCP: "TCP", policy.UDP: "UDP", policy.SCTP: "SCTP"}[proto]
}

// portText is a part of a set in JSON, in the words of a NetworkPolicy's port.
type portText struct {
	Protocol string `json:"protocol"` // TCP, UDP, SCTP; "all" for everything, "other" for every protocol without ports
	Port     *int   `json:"port,omitempty"`
	EndPort  *int   `json:"endPort,omitempty"`
}

// MarshalJSON returns the set as an array in the words of a NetworkPolicy's ports, with the protocol "all" for
// everything, and "other" for every protocol without ports.
func (p Ports) MarshalJSON() ([]byte, error) {
	list := []portText{}
	switch {
	case p.All():
		return json.Marshal(append(list, portText{Protocol: "all"}))
	case p.others:
		list = append(list, portText{Protocol: "other"})
	}
	for _, r := range p.ranges {
		part := portText{Protocol: protocolName(r.proto)}
		if first, last := int(r.first), int(r.last); first > 1 || last < 65535 {
			part.Port = &first
			if last != first {
				part.EndPort = &last
			}
		}
		list = append(list, part)
	}
	return json.Marshal(list)
}

// Key returns a key that is equal only for equal sets.
func (p Ports) Key() string {
	b := make([]byte, 0, 1+5*len(p.ranges))
	if p.others {
		b = append(b, 1)
	}
	for _, r := range p.ranges {
		b = append(b, r.proto)
		b = binary.BigEndian.AppendUint16(b, r.first)
		b = binary.BigEndian.AppendUint16(b, r.last)
	}
	return string(b)
}
