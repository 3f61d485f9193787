// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"iter"
	"net/netip"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/spec"
)

// setKind is a kind of match; an isolation has at most one set or map of each kind and family.
type setKind uint8

const (
	portsSet  setKind = iota // pods × a few exact ports
	podsSet                  // pods, on every port
	rangesSet                // pods × port ranges
	blocksSet                // addresses
)

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

// setID says which of an isolation's sets one is.
type setID struct {
	kind   setKind
	family nft.Family
}

// Grant is a port set that an isolation opens to peers.
type Grant struct {
	Ports spec.Ports

	kind  setKind
	chain string // of kind rangesSet
	users int
}

// Grants yields the number of users of each grant.
func (c *Isolation) Grants() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, g := range c.grants {
			if !yield(g.users) {
				return
			}
		}
	}
}

// Acquire returns the grant of ports, for one more peer.
func (c *Isolation) Acquire(ports spec.Ports) *Grant {
	key := ports.Key()
	g := c.grants[key]
	if g == nil {
		g = &Grant{Ports: ports, kind: rangesSet}
		switch {
		case ports.Every:
			g.kind = podsSet
		case opening.Exact(ports):
			g.kind = portsSet
		default:
			g.chain = c.place.Openings.Acquire(opening.Of(c.Kind, ports))
		}
		c.grants[key] = g
	}
	g.users++
	return g
}

// Release gives g back for one peer.
func (c *Isolation) Release(g *Grant) {
	g.users--
	if g.users > 0 {
		return
	}
	delete(c.grants, g.Ports.Key())
	if g.kind == rangesSet {
		c.place.Openings.Release(opening.Of(c.Kind, g.Ports))
	}
}

// elements yields the elements that grant g to an address.
func (g *Grant) elements(a netip.Addr) iter.Seq2[nft.Key, nft.Value] {
	return func(yield func(nft.Key, nft.Value) bool) {
		switch g.kind {
		case podsSet:
			yield(nft.AddrKey(a), nft.Value{})
		case rangesSet:
			yield(nft.AddrKey(a), nft.Value{Verdict: nft.JumpTo(g.chain)})
		default:
			for _, r := range g.Ports.Ranges {
				if !yield(nft.PortKey(a, r.Proto, r.First), nft.Value{}) {
					return
				}
			}
		}
	}
}

// Want adds the address of a pod of that name to g's set.
func (c *Isolation) Want(a netip.Addr, pod string, g *Grant) {
	set := c.set(g.kind, nft.FamilyOf(a))
	for key, v := range g.elements(a) {
		c.place.Edits++
		v.Comment = pod
		set.Want(key, v)
	}
}

// Unwant removes an address from g's set.
func (c *Isolation) Unwant(a netip.Addr, g *Grant) {
	set := c.set(g.kind, nft.FamilyOf(a))
	for key := range g.elements(a) {
		c.place.Edits++
		set.Unwant(key)
	}
	if set.Len() == 0 {
		c.place.Changed(c.Chain)
	}
}

// set returns the isolation's set of a kind, which exists as long as it has elements.
func (c *Isolation) set(k setKind, f nft.Family) *nft.Set {
	if set := c.sets[setID{k, f}]; set != nil {
		return set
	}
	return c.make(setID{k, f}, c.hash)
}

// setName names a set of the isolation.
func (c *Isolation) setName(id setID, hash string) string {
	return c.Kind.String() + "-" + hash + "-" + id.kind.String() + "-" + id.family.String()
}

// make makes a set with a hash in its name.
func (c *Isolation) make(id setID, hash string) *nft.Set {
	c.place.Changed(c.Chain)
	if c.sets == nil {
		c.sets = make(map[setID]*nft.Set)
	}
	c.sets[id] = c.place.Table.Set(c.setName(id, hash), id.kind.setType(id.family), id.kind.comment()+c.policies)
	return c.sets[id]
}

// delete deletes a set.
func (c *Isolation) delete(id setID) {
	c.place.Table.DeleteSet(c.sets[id].Name)
	delete(c.sets, id)
}

// PutBlocks replaces the blocks, which must be disjoint and ascending. A block map is never changed: other blocks get a
// map of another name, so that a packet in flight finds all of the new ones or all of the old ones. (Overlapping
// intervals could not be added before the old ones go.)
func (c *Isolation) PutBlocks(blocks []opening.Range) {
	old := c.opened
	c.opened = nil
	for _, b := range blocks { // before the release below, which may release the same chain
		if _, acquired := c.opened[b.Chain]; acquired || b.Ports.Every {
			continue
		}
		if c.opened == nil {
			c.opened = make(map[string]opening.Opening)
		}
		c.opened[b.Chain] = b.Opening
		c.place.Openings.Acquire(b.Opening)
	}
	c.place.Edits += c.blocks + 2*len(blocks)
	c.blocks = len(blocks)
	for _, f := range nft.Families() {
		c.putBlocks(setID{blocksSet, f}, blocks)
	}
	for _, o := range old {
		c.place.Openings.Release(o)
	}
}

// allow returns the verdict on packets of a range.
func (c *Isolation) allow(b opening.Range) nft.Verdict {
	if b.Ports.Every {
		return c.Kind.Allow()
	}
	return nft.JumpTo(b.Chain)
}

// putBlocks replaces the block map of a family, if that changes it.
func (c *Isolation) putBlocks(id setID, blocks []opening.Range) {
	var content []string
	for _, b := range blocks {
		if b.Family == id.family {
			content = append(content, string(b.First.AsSlice()), string(b.Last.AsSlice()), c.allow(b).Chain)
		}
	}
	hash := c.hash + "-" + nft.Hash(content...)
	if old := c.sets[id]; old != nil {
		if content != nil && old.Name == c.setName(id, hash) {
			return
		}
		c.delete(id)
		c.place.Changed(c.Chain)
	}
	if content == nil {
		return
	}
	set := c.make(id, hash)
	for _, b := range blocks {
		if b.Family == id.family {
			set.Want(nft.PairKey(b.First, b.Last), nft.Value{Verdict: c.allow(b)})
		}
	}
}
