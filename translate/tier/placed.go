// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Selectors are what a list knows of the selectors of pods that its rules have as peers, which it calls by number.
type Selectors struct {
	RulesOf [][]int // the rules that have each as a peer

	// Base is the selector that is likely to match most pods of a cluster; negative: none is. Those of its pods that no
	// other one matches are in no map of the list, but in sets of the table, which lists share.
	Base int
}

// Placed is a list in a table: its chain and what that leads to.
type Placed struct {
	*List
	Selectors
	name     string
	parts    *Parts
	groups   map[string]*Group
	weight   int // of the classes of all addresses, in elements
	sequence sequence

	form  Form
	stale bool // an element is missing, which would have been too much

	// Of the form Classes:
	maps map[nft.Family]*nft.Set // of pods' addresses; nil: no rule has pods as peers
	rest everywhere              // of what no selector matches
	base everywhere              // of what the base alone matches

	steps []*part // of the form Sequential
}

// Group is the pods that the same selectors of a list match and, if a rule names ports, that have the same ports with
// names.
type Group struct {
	key       string
	selectors int                // in the key, each 4 bytes
	ports     []policy.NamedPort // nil, if no rule names any
	inBase    bool
	users     int              // kinds of pods
	members   map[int]*members // by the sets of networks that addresses of the pods are in, or nowhere
}

// members are the addresses of a group in the same networks.
type members struct {
	Class     // if it is made
	made      bool
	implied   bool // the list does the same with them without elements
	weight    int
	addresses int
}

// PutInto puts the list into the table of parts, with a chain of that name. It is absent, and has no pods, yet.
func (l *List) PutInto(parts *Parts, name string, s Selectors) *Placed {
	p := &Placed{List: l, name: name, parts: parts, Selectors: s, groups: make(map[string]*Group)}
	p.sequence, p.weight = l.sequence(s.RulesOf), l.fixed
	if s.Base >= 0 {
		for set := nowhere; set < len(l.sets) && p.weight <= l.bounds.Elements; set++ {
			p.weight += l.weigh(s.RulesOf[s.Base], set, nil)
		}
	}
	return p
}

// setName names a set that is the list's alone.
func (p *Placed) setName(kind string, f nft.Family) string {
	return strings.Replace(p.name, "list", kind, 1) + "-" + f.String()
}

// Group returns the group of the pods that some selectors match, in ascending order, with those ports, for one more
// kind of pods; nil is the group of those whose addresses never are elements of the list.
func (p *Placed) Group(selectors []int, ports []policy.NamedPort) *Group {
	inBase := slices.Contains(selectors, p.Base)
	if len(selectors) == 0 || !p.named && (p.wide || inBase && len(selectors) == 1) {
		return nil
	}
	if !p.named {
		ports = nil
	}
	key := fmt.Append(appendInts(nil, selectors), ports)
	g := p.groups[string(key)]
	if g == nil {
		g = &Group{key: string(key), selectors: len(selectors), ports: ports, inBase: inBase,
			members: make(map[int]*members)}
		p.groups[g.key] = g
	}
	g.users++
	return g
}

// rulesOf returns the rules that match the pods of a group by their peers, in ascending order.
func (p *Placed) rulesOf(g *Group) []int {
	var rules []int
	for i := range g.selectors {
		selector := binary.BigEndian.Uint32([]byte(g.key[4*i:]))
		rules = append(rules, p.RulesOf[selector]...)
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// Leave takes back one [Placed.Group]. The last kind of pods has no addresses any more.
func (p *Placed) Leave(g *Group) {
	if g == nil {
		return
	}
	if g.users--; g.users == 0 {
		delete(p.groups, g.key)
	}
}

// Move takes an address out of one group, and puts it into another. Either may be nil. The list may be stale then.
func (p *Placed) Move(a netip.Addr, from, to *Group) {
	if from == nil && to == nil {
		return
	}
	p.parts.Edits++
	set := p.at(a)
	if to != nil {
		p.join(to, set)
	}
	p.put(a, to, cmp.Or(to, from).ports)
	if from == nil {
		return
	}
	m := from.members[set]
	if m.addresses--; m.addresses == 0 {
		delete(from.members, set)
		p.weight -= m.weight
		p.parts.release(m.part)
	}
}

// join makes one more member of a group, among those in the same networks.
func (p *Placed) join(g *Group, set int) {
	m := g.members[set]
	if m == nil {
		m = &members{weight: p.weigh(p.rulesOf(g), set, g.ports)}
		g.members[set] = m
		p.weight += m.weight
	}
	m.addresses++
}

// put brings what the list has of an address up to date, which is in a group, or nil, and of a pod with those ports.
func (p *Placed) put(a netip.Addr, g *Group, ports []policy.NamedPort) {
	switch p.form {
	case Classes:
		key, elements := nft.AddrKey(a), p.maps[nft.FamilyOf(a)]
		if p.weight > p.bounds.Elements {
			p.stale, g = true, nil
		}
		if m := p.made(g, p.at(a)); m != nil && !m.implied {
			elements.Want(key, nft.Value{Verdict: m.Verdict})
		} else {
			elements.Unwant(key)
		}
	case Sequential:
		p.putNamed(a, g, ports)
	}
}

// made returns the members of a group in the same networks, with their class; nil of no group.
func (p *Placed) made(g *Group, set int) *members {
	if g == nil {
		return nil
	}
	m := g.members[set]
	if m.made {
		return m
	}
	found := p.rest
	if g.inBase {
		found = p.base
	}
	m.made, m.Class = true, p.class(p.rulesOf(g), set, g.ports)
	if m.implied = m.Verdict == found.at(set); m.implied {
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
	return l.Tier.String() + ": " + strings.Join(names, ", ")
}
