// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
)

// Selectors are what a list knows about the pod selectors that are peers of its rules, which it calls by number.
type Selectors struct {
	RulesOf [][]int // the rules that have each as a peer

	// Wide are selectors that match many pods, four at most. Pods that only these match are in no map of the list, but
	// in sets of the table, which lists share. As many of the first count as fit within the bounds.
	Wide   []int
	Always int // how many of the first are wide whatever the pods
}

// Placed is a list in a table: its chain and everything that leads to.
type Placed struct {
	*List
	Selectors
	name     string
	parts    *Parts
	groups   map[string]*Group
	weight   int             // of the classes of all addresses, in elements
	copied   int             // addresses in groups
	sequence func() sequence // which few lists need

	form  Form
	stale bool // an element is missing because it would have exceeded the bounds

	// For the form Classes:
	maps  map[nft.Family]*nft.Set // of pod addresses; nil if no rule has pods as peers
	found []everywhere            // classes of what only wide selectors match: see [Placed.mask]
	tree  *part                   // finds out which of them do

	steps []*part // for the form Sequential
}

// Group is pods that the same selectors of a list match and, if a rule names ports, that have the same named ports.
type Group struct {
	key       string
	selectors int                // in the key, each 4 bytes
	ports     []policy.NamedPort // nil, if no rule names any
	mask      int
	users     int              // kinds of pods
	members   map[int]*members // by the set of networks that contain the addresses, or nowhere
}

// members are the addresses of a group in the same networks.
type members struct {
	Class     // if made
	made      bool
	implied   bool // the list does the same without elements for them
	weight    int
	addresses int
}

// PutInto puts the list into the table of parts, with a chain of that name. It has no form and no pods yet.
func (l *List) PutInto(parts *Parts, name string, s Selectors) *Placed {
	p := &Placed{List: l, name: name, parts: parts, Selectors: s, groups: make(map[string]*Group)}
	p.sequence = sync.OnceValue(func() sequence { return l.sequence(s.RulesOf) })
	p.weight = p.weighWide()
	for len(p.Wide) > 0 && p.weight > l.bounds.Elements {
		p.Wide = p.Wide[:len(p.Wide)-1]
		p.weight = p.weighWide()
	}
	return p
}

// weighWide counts the elements of the list without pods in groups, or returns more than its bound.
func (p *Placed) weighWide() int {
	n := p.fixed
	for mask := 1; mask < 1<<len(p.Wide); mask++ {
		n += len(p.networks[nft.IPv4]) + len(p.networks[nft.IPv6])
		for set := nowhere; set < len(p.sets) && n <= p.bounds.Elements; set++ {
			n += p.weigh(p.rulesOfMask(mask), set, nil)
		}
	}
	return n
}

// mask returns which wide selectors are in some, a bit for each.
func (p *Placed) mask(selectors []int) int {
	mask := 0
	for i, selector := range p.Wide {
		if slices.Contains(selectors, selector) {
			mask |= 1 << i
		}
	}
	return mask
}

// rulesOfMask returns the rules with one of these wide selectors as a peer, in ascending order.
func (p *Placed) rulesOfMask(mask int) []int {
	var rules []int
	for i, selector := range p.Wide {
		if mask>>i&1 == 1 {
			rules = append(rules, p.RulesOf[selector]...)
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// Group returns the group of the pods that some selectors, in ascending order, match, with these ports, for one more
// kind of pods; nil is the group of those whose addresses are never elements of the list.
func (p *Placed) Group(selectors []int, ports []policy.NamedPort) *Group {
	mask := p.mask(selectors)
	if len(p.names) == 0 {
		ports = nil
	}
	ports = slices.DeleteFunc(slices.Clone(ports), func(have policy.NamedPort) bool {
		return !slices.Contains(p.names, have.Name)
	})
	if p.over || len(selectors) == 0 || len(ports) == 0 && bits.OnesCount(uint(mask)) == len(selectors) {
		return nil
	}
	key := opening.IntsKey(selectors) + fmt.Sprint(ports)
	g := p.groups[key]
	if g == nil {
		g = &Group{key: key, selectors: len(selectors), ports: ports, mask: mask,
			members: make(map[int]*members)}
		p.groups[g.key] = g
	}
	g.users++
	return g
}

// rulesOf returns the rules whose peers match the pods of a group, in ascending order.
func (p *Placed) rulesOf(g *Group) []int {
	var rules []int
	for i := range g.selectors {
		selector := binary.BigEndian.Uint32([]byte(g.key[4*i:]))
		rules = append(rules, p.RulesOf[selector]...)
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// Leave takes back one [Placed.Group]. The last kind of pods must have no addresses left.
func (p *Placed) Leave(g *Group) {
	if g == nil {
		return
	}
	if g.users--; g.users == 0 {
		delete(p.groups, g.key)
	}
}

// Move moves an address from one group to another. Either may be nil. The list may become stale.
func (p *Placed) Move(a netip.Addr, from, to *Group) {
	if from == nil && to == nil {
		return
	}
	p.parts.Edits++
	set := p.at(a)
	if to != nil {
		p.join(to, set)
	}
	p.put(a, to)
	if from == nil {
		return
	}
	p.copied--
	m := from.members[set]
	if m.addresses--; m.addresses == 0 {
		delete(from.members, set)
		p.weight -= m.weight
		p.parts.release(m.part)
	}
}

// join adds a member to a group, among those in the same networks.
func (p *Placed) join(g *Group, set int) {
	m := g.members[set]
	if m == nil {
		m = &members{weight: p.weigh(p.rulesOf(g), set, g.ports)}
		g.members[set] = m
		p.weight += m.weight
	}
	m.addresses++
	p.copied++
}

// put updates the element of an address, which is in group g, or none if g is nil.
func (p *Placed) put(a netip.Addr, g *Group) {
	if p.form != Classes {
		return
	}
	key, elements := nft.AddrKey(a), p.maps[nft.FamilyOf(a)]
	if p.Due() != Classes {
		p.stale, g = true, nil
	}
	if m := p.made(g, p.at(a)); m != nil && !m.implied {
		elements.Want(key, nft.Value{Verdict: m.Verdict})
	} else {
		elements.Unwant(key)
	}
}

// made returns the members of a group in the same networks, with their class; nil for no group.
func (p *Placed) made(g *Group, set int) *members {
	if g == nil {
		return nil
	}
	m := g.members[set]
	if m.made {
		return m
	}
	m.made, m.Class = true, p.class(p.rulesOf(g), set, g.ports)
	if m.implied = m.Verdict == p.found[g.mask].at(set); m.implied {
		m.Class = Class{}
	}
	p.parts.acquire(m.part)
	return m
}

// comment names the policies.
func (l *List) comment() string {
	var names []string
	for _, r := range l.rules {
		if n := len(names); n == 0 || names[n-1] != r.Policy {
			names = append(names, r.Policy)
		}
	}
	return l.Tier.Title() + ": " + strings.Join(names, ", ")
}
