// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"github.com/netpold/netpold/nft"
)

// Chains are the chains of a table that accept ports. Each exists as long as it has users.
type Chains struct {
	Edits int // edits of elements and ports so far

	table *nft.Table
	users map[string]int
}

// NewChains returns the chains of a table that has none yet.
func NewChains(t *nft.Table) *Chains {
	return &Chains{table: t, users: make(map[string]int)}
}

// Users returns the number of users of each chain.
func (c *Chains) Users() map[string]int { return c.users }

// Acquire adds a user of the chain of o, which accepts its ports, and returns the chain's name. Equal openings share a
// chain.
func (c *Chains) Acquire(o Opening) string {
	c.users[o.Chain]++
	if c.users[o.Chain] > 1 {
		return o.Chain
	}
	var rules []nft.Rule
	if o.outer == nil || Inline(o.Ports) {
		rules = c.rules(o)
	} else { // the sets depend only on the ports
		rules = []nft.Rule{nft.R(nft.JumpTo(c.Acquire(Of(o.kind, o.Ports))))}
	}
	if o.outer != nil {
		rules = append(rules, nft.R(nft.GotoChain(c.Acquire(*o.outer))))
	}
	c.table.SetChain(&nft.Chain{Name: o.Chain, Rules: rules})
	return o.Chain
}

// rules returns the rules that allow the ports of o.
func (c *Chains) rules(o Opening) []nft.Rule {
	c.Edits += 2 * len(o.Ports.Ranges)
	if Inline(o.Ports) {
		return nft.Rules(o.Ports.Ranges, o.kind.Allow())
	}
	var rules []nft.Rule
	for proto, ranges := range o.Ports.Ranges.Protocols() {
		set := c.table.Set(setName(o.Chain, proto), nft.SetType{Fields: nft.PortInterval}, "")
		for _, r := range ranges {
			set.Want(nft.IntervalKey(r.First, r.Last), nft.Value{})
		}
		rules = append(rules, nft.R(nft.Lookup{Proto: proto, Set: set.Name, Type: set.Type}, o.kind.Allow()))
	}
	return rules
}

// setName names the set of the ports of a protocol that a chain accepts.
func setName(chain string, proto uint8) string { return chain + "-" + nft.ProtocolName(proto) }

// Release takes back one [Chains.Acquire] of o.
func (c *Chains) Release(o Opening) {
	c.users[o.Chain]--
	if c.users[o.Chain] > 0 {
		return
	}
	delete(c.users, o.Chain)
	c.table.DeleteChain(o.Chain)
	switch {
	case Inline(o.Ports):
	case o.outer != nil:
		c.Release(Of(o.kind, o.Ports))
	default:
		for proto := range o.Ports.Ranges.Protocols() {
			c.table.DeleteSet(setName(o.Chain, proto))
		}
	}
	if o.outer != nil {
		c.Release(*o.outer)
	}
}
