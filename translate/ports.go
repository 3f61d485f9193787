// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/netpold/netpold/nft"
)

// portSet is the ports that a rule opens, or the union of several rules'. The zero value opens nothing.
type portSet struct {
	every  bool      // every protocol and port, ICMP too; then ranges is nil
	ranges nft.Ports // sorted, disjoint and merged
}

// everyPort is what a rule without ports opens.
func everyPort() portSet { return portSet{every: true} }

// union returns the ports that are in any of the sets, in the one canonical form.
func union(sets ...portSet) portSet {
	if len(sets) == 1 {
		return sets[0]
	}
	var all nft.Ports
	for _, s := range sets {
		if s.every {
			return everyPort()
		}
		all = append(all, s.ranges...)
	}
	return portSet{ranges: merge(all)}
}

// merge sorts ranges and joins those that overlap or touch. It reuses the slice.
func merge(ranges nft.Ports) nft.Ports {
	slices.SortFunc(ranges, func(a, b nft.PortRange) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.First, b.First))
	})
	merged := ranges[:0]
	for _, r := range ranges {
		if n := len(merged); n > 0 && merged[n-1].Proto == r.Proto && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// empty says whether the set opens nothing.
func (p portSet) empty() bool { return !p.every && len(p.ranges) == 0 }

// maxExact is how many ports of a peer become elements of their own. With more, the peer's address jumps to a chain with the port
// set, so that a policy with 5,000 ports does not make 5,000 elements for each of its peers.
const maxExact = 8

// exact says whether the set is a few single ports.
func (p portSet) exact() bool {
	return !p.every && len(p.ranges) <= maxExact &&
		!slices.ContainsFunc(p.ranges, func(r nft.PortRange) bool { return r.First != r.Last })
}

// key returns what is equal for equal sets and only for those.
func (p portSet) key() string {
	if p.every {
		return "*"
	}
	b := make([]byte, 0, 5*len(p.ranges))
	for _, r := range p.ranges {
		b = append(b, r.Proto)
		b = binary.BigEndian.AppendUint16(b, r.First)
		b = binary.BigEndian.AppendUint16(b, r.Last)
	}
	return string(b)
}

// portChain is a chain that accepts a port set. Whatever jumps to it by an equal set shares it.
type portChain struct {
	name  string
	users int
}

// acquirePorts returns the chain of p for one more user.
func (s *State) acquirePorts(p portSet) *portChain {
	key := p.key()
	c := s.portChains[key]
	if c == nil {
		c = &portChain{name: "ports-" + hash(key)}
		s.portChains[key] = c
		s.table.SetChain(&nft.Chain{Name: c.name, Rules: []nft.Rule{nft.R(p.ranges, accept())}})
	}
	c.users++
	return c
}

// releasePorts takes back one [State.acquirePorts] of p.
func (s *State) releasePorts(p portSet) {
	key := p.key()
	c := s.portChains[key]
	if c.users--; c.users == 0 {
		delete(s.portChains, key)
		s.table.DeleteChain(c.name)
	}
}

func accept() nft.Verdict { return nft.Verdict{Kind: nft.Accept} }
