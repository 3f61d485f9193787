// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/binary"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Ports is the ports that a rule opens, or the union of several rules'. The zero value opens nothing.
type Ports struct {
	Every  bool      // every protocol and port, ICMP too; then Ranges is nil
	Ranges nft.Ports // sorted, disjoint, and none touches the next
}

// EveryPort is what a rule without ports opens.
func EveryPort() Ports { return Ports{Every: true} }

// Union returns the ports that are in any of the sets, in the one canonical form.
func Union(sets ...Ports) Ports {
	if len(sets) == 1 {
		return sets[0]
	}
	var all nft.Ports
	for _, s := range sets {
		if s.Every {
			return EveryPort()
		}
		all = append(all, s.Ranges...)
	}
	return Ports{Ranges: all.Compact()}
}

// Empty says whether the set opens nothing.
func (p Ports) Empty() bool { return !p.Every && len(p.Ranges) == 0 }

// Equal says whether two open the same.
func (p Ports) Equal(q Ports) bool { return p.Every == q.Every && slices.Equal(p.Ranges, q.Ranges) }

// Key returns a key that is equal only for equal sets.
func (p Ports) Key() string {
	if p.Every {
		return "*"
	}
	b := make([]byte, 0, 5*len(p.Ranges))
	for _, r := range p.Ranges {
		b = append(b, r.Proto)
		b = binary.BigEndian.AppendUint16(b, r.First)
		b = binary.BigEndian.AppendUint16(b, r.Last)
	}
	return string(b)
}

// NumbersOf returns the numbers of the ports with the name and protocol of one.
func NumbersOf(ports []policy.NamedPort, port policy.NamedPort) nft.Ports {
	var numbers nft.Ports
	for _, have := range ports {
		if have.Name == port.Name && have.Proto == port.Proto {
			numbers = append(numbers, nft.PortRange{Proto: have.Proto, First: have.Number, Last: have.Number})
		}
	}
	return numbers
}
