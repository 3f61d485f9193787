// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// maxInline is how many port ranges a rule has in itself: the kernel takes them together with the rule, and for n
// single ports of one protocol the time of n². More are sets of their own, which are made in portions before a rule
// leads to them, and which all isolations share.
const maxInline = 256

// inline says whether a rule has the ports in itself.
func inline(p spec.Ports) bool { return len(p.Ranges) <= maxInline }

// maxExact is how many ports of a peer become elements of their own. With more, the peer's address jumps to a chain
// with the port set, so that a policy with 5,000 ports does not make 5,000 elements for each of its peers.
const maxExact = 8

// exact says whether the set is a few single ports.
func exact(p spec.Ports) bool {
	return !p.Every && len(p.Ranges) <= maxExact &&
		!slices.ContainsFunc(p.Ranges, func(r nft.PortRange) bool { return r.First != r.Last })
}

// opening is what is open to a range of addresses: ports and, where blocks lie inside others, what is open around it as
// well.
type opening struct {
	direction policy.Direction
	ports     spec.Ports
	outer     *opening // nil: nothing more
	chain     string   // that accepts it; "" where every port is open, as none is needed
}

// opening returns the opening of ports in a direction, inside of outer, which may be nil.
func openingOf(d policy.Direction, ports spec.Ports, outer *opening) opening {
	o := opening{direction: d, ports: ports}
	if ports.Every { // nothing adds to it
		return o
	}
	fields := []string{ports.Key()}
	o.outer = outer
	if outer != nil {
		fields = append(fields, outer.chain)
	}
	o.chain = d.String() + "-ports-" + nft.Hash(fields...)
	return o
}

// equal says whether two open the same in the same way.
func (o opening) equal(p opening) bool { return o.chain == p.chain && o.ports.Every == p.ports.Every }

// acquirePorts makes one more user of the chain of o, which accepts its ports, and returns the chain's name. Whatever
// jumps to a chain by an equal opening shares it.
func (s *State) acquirePorts(o opening) string {
	s.portChains[o.chain]++
	if s.portChains[o.chain] > 1 {
		return o.chain
	}
	var rules []nft.Rule
	if o.outer == nil || inline(o.ports) {
		rules = s.portRules(o)
	} else { // the sets are those of the ports alone
		rules = []nft.Rule{nft.R(nft.JumpTo(s.acquirePorts(openingOf(o.direction, o.ports, nil))))}
	}
	if o.outer != nil {
		rules = append(rules, nft.R(nft.GotoChain(s.acquirePorts(*o.outer))))
	}
	s.table.SetChain(&nft.Chain{Name: o.chain, Rules: rules})
	return o.chain
}

// portRules returns the rules that allow the ports of o.
func (s *State) portRules(o opening) []nft.Rule {
	s.work += 2 * len(o.ports.Ranges)
	if inline(o.ports) {
		return nft.Rules(o.ports.Ranges, frame.Allow(o.direction))
	}
	var rules []nft.Rule
	for proto, ranges := range o.ports.Ranges.Protocols() {
		set := s.table.Set(portsSetName(o.chain, proto), nft.SetType{Fields: nft.PortInterval}, "")
		for _, r := range ranges {
			set.Want(nft.IntervalKey(r.First, r.Last), nft.Value{})
		}
		rules = append(rules, nft.R(nft.PortLookup{Proto: proto, Set: set.Name}, frame.Allow(o.direction)))
	}
	return rules
}

// portsSetName names the set of the ports of a protocol that a chain accepts.
func portsSetName(chain string, proto uint8) string { return chain + "-" + nft.ProtocolName(proto) }

// releasePorts takes back one [State.acquirePorts] of o.
func (s *State) releasePorts(o opening) {
	s.portChains[o.chain]--
	if s.portChains[o.chain] > 0 {
		return
	}
	delete(s.portChains, o.chain)
	s.table.DeleteChain(o.chain)
	switch {
	case inline(o.ports):
	case o.outer != nil:
		s.releasePorts(openingOf(o.direction, o.ports, nil))
	default:
		for proto := range o.ports.Ranges.Protocols() {
			s.table.DeleteSet(portsSetName(o.chain, proto))
		}
	}
	if o.outer != nil {
		s.releasePorts(*o.outer)
	}
}
