// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"net/netip"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/spec"
)

// setKind is a kind of match; each is at most one set or map of an isolation in a family.
type setKind uint8

const (
	portsSet  setKind = iota // pods × a few exact ports
	podsSet                  // pods, on every port
	rangesSet                // pods × port ranges
	blocksSet                // addresses
)

func setKinds() [4]setKind { return [...]setKind{portsSet, podsSet, rangesSet, blocksSet} }

func (k setKind) String() string { return [...]string{"ports", "pods", "ranges", "blocks"}[k] }

// comment begins the comment of the sets of a kind; the policies follow.
func (k setKind) comment() string {
	return [...]string{"pods by port, ", "pods, every port, ", "pods by port range, ", "ipBlocks, "}[k]
}

// setType is the type of the sets of a kind.
func (k setKind) setType(f nft.Family) nft.SetType {
	return nft.SetType{
		Family: f,
		Fields: [...]nft.Fields{nft.AddrProtoPort, nft.Addr, nft.Addr, nft.AddrRange}[k],
		Map:    k == rangesSet || k == blocksSet,
	}
}

// grant is a port set that an isolation opens to identities.
type grant struct {
	ports spec.Ports
	kind  setKind
	chain string // of kind rangesSet
	users int    // identities
}

// grant brings what the isolation opens to an identity, and the elements of its addresses, up to date.
func (iso *isolation) grant(s *State, id *identity) {
	ports := iso.portsOf(id)
	old := id.Own.grants[iso]
	if old == nil && ports.Empty() || old != nil && old.ports.Key() == ports.Key() {
		return
	}
	var next *grant
	if !ports.Empty() {
		next = iso.acquire(s, ports)
	}
	if old != nil {
		for a := range s.index.Addresses(id) {
			iso.unwant(s, a, old)
		}
		iso.release(s, id, old)
	}
	if next != nil {
		if id.Own.grants == nil {
			id.Own.grants = make(map[*isolation]*grant)
		}
		id.Own.grants[iso] = next
		for a, p := range s.index.Addresses(id) {
			iso.want(s, a, p, next)
		}
	}
}

// portsOf returns the union of what the isolation's merged selectors that match id open.
func (iso *isolation) portsOf(id *identity) spec.Ports {
	var open []spec.Ports
	add := func(a allowed) {
		open = append(open, a.open)
		for _, port := range a.named {
			open = append(open, spec.Ports{Ranges: numbersOf(id, port)})
		}
	}
	if len(iso.copied) < len(id.Selectors) {
		for sel, a := range iso.copied {
			if _, matches := sel.Matches[id]; matches {
				add(a)
			}
		}
		return spec.Union(open...)
	}
	for _, sel := range id.Selectors {
		if a, ok := iso.copied[sel]; ok {
			add(a)
		}
	}
	return spec.Union(open...)
}

// acquire returns the grant of ports for one more identity.
func (iso *isolation) acquire(s *State, ports spec.Ports) *grant {
	key := ports.Key()
	g := iso.grants[key]
	if g == nil {
		g = &grant{ports: ports, kind: rangesSet}
		switch {
		case ports.Every:
			g.kind = podsSet
		case opening.Exact(ports):
			g.kind = portsSet
		default:
			g.chain = s.openings.Acquire(opening.Of(iso.kind, ports))
		}
		iso.grants[key] = g
	}
	g.users++
	return g
}

// release takes g back from id.
func (iso *isolation) release(s *State, id *identity, g *grant) {
	delete(id.Own.grants, iso)
	g.users--
	if g.users > 0 {
		return
	}
	delete(iso.grants, g.ports.Key())
	if g.kind == rangesSet {
		s.openings.Release(opening.Of(iso.kind, g.ports))
	}
}

// elements yields the elements that open g to an address.
func (g *grant) elements(a netip.Addr) iter.Seq2[nft.Key, nft.Value] {
	return func(yield func(nft.Key, nft.Value) bool) {
		switch g.kind {
		case podsSet:
			yield(nft.AddrKey(a), nft.Value{})
		case rangesSet:
			yield(nft.AddrKey(a), nft.Value{Verdict: nft.JumpTo(g.chain)})
		default:
			for _, r := range g.ports.Ranges {
				if !yield(nft.PortKey(a, r.Proto, r.First), nft.Value{}) {
					return
				}
			}
		}
	}
}

// want adds an address of p to the set that g is of.
func (iso *isolation) want(s *State, a netip.Addr, p *pod, g *grant) {
	set := iso.set(s, g.kind, nft.FamilyOf(a))
	for key, v := range g.elements(a) {
		s.work++
		v.Comment = p.Text
		set.Want(key, v)
	}
}

// unwant takes an address out of the set that g is of.
func (iso *isolation) unwant(s *State, a netip.Addr, g *grant) {
	for key := range g.elements(a) {
		iso.drop(s, g.kind, nft.FamilyOf(a), key)
	}
}

// setName names the isolation's set of a kind, or says "" of blocks that there are none of.
func (iso *isolation) setName(k setKind, f nft.Family) string {
	if k == blocksSet {
		return iso.blockMaps[f]
	}
	return iso.kind.String() + "-" + iso.hash + "-" + k.String() + "-" + f.String()
}

// set returns the isolation's set of a kind, which is there as long as it has elements.
func (iso *isolation) set(s *State, k setKind, f nft.Family) *nft.Set {
	name := iso.setName(k, f)
	if set := s.table.FindSet(name); set != nil {
		return set
	}
	s.dirtyChains[iso] = struct{}{}
	return s.table.Set(name, k.setType(f), k.comment()+frame.PolicyList(iso.policies))
}

// drop takes an element out of the isolation's set of a kind.
func (iso *isolation) drop(s *State, k setKind, f nft.Family, key nft.Key) {
	s.work++
	set := iso.set(s, k, f)
	set.Unwant(key)
	if set.Len() == 0 {
		s.dirtyChains[iso] = struct{}{}
	}
}

// putBlocks wants the isolation's blocks in the place of old ones. A map of blocks is not changed: other blocks are in
// a map of another name, so that a packet which is under way finds all of them, or all of the old ones. Intervals that
// overlap could not be added before others go.
func (iso *isolation) putBlocks(s *State, old []opening.Range) {
	verdicts := make([]nft.Verdict, len(iso.blocks))
	for i, b := range iso.blocks { // before the release below, which may be of the same chain
		if verdicts[i] = iso.kind.Allow(); !b.Ports.Every {
			verdicts[i] = nft.JumpTo(s.openings.Acquire(b.Opening))
		}
	}
	for _, f := range nft.Families() {
		name := iso.blockMap(f, verdicts)
		if name == iso.blockMaps[f] {
			continue
		}
		s.table.DeleteSet(iso.blockMaps[f])
		s.dirtyChains[iso] = struct{}{}
		if iso.blockMaps[f] = name; name == "" {
			continue
		}
		set := iso.set(s, blocksSet, f)
		for i, b := range iso.blocks {
			if b.Family == f {
				set.Want(nft.PairKey(b.First, b.Last), nft.Value{Verdict: verdicts[i]})
			}
		}
	}
	for _, b := range old {
		if !b.Ports.Every {
			s.openings.Release(b.Opening)
		}
	}
	s.work += len(old) + 2*len(iso.blocks)
}

// blockMap names the map of the blocks of a family by what is in it, or returns "" if there are none.
func (iso *isolation) blockMap(f nft.Family, verdicts []nft.Verdict) string {
	var content []string
	for i, b := range iso.blocks {
		if b.Family == f {
			content = append(content, string(b.First.AsSlice()), string(b.Last.AsSlice()), verdicts[i].Chain)
		}
	}
	if content == nil {
		return ""
	}
	return iso.kind.String() + "-" + iso.hash + "-" + nft.Hash(content...) + "-" + blocksSet.String() + "-" + f.String()
}
