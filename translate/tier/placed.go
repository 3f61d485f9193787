// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Selectors are what a list knows of the selectors of pods that its rules have as peers, which it calls by number.
type Selectors struct {
	RulesOf [][]int // the rules that have each as a peer

	// Base is the selector that is likely to match most pods of a cluster; negative: none is. Those of its pods that no
	// other one matches are in no map of the list, but in sets of the table, which lists share.
	Base int
	Sets map[nft.Family]*nft.Set
}

// Placed is a list in a table: its chain, the maps of the addresses of pods that have classes of their own, and the
// parts that those lead to.
type Placed struct {
	*List
	name  string
	parts *Parts
	Selectors
	maps   map[nft.Family]*nft.Set // nil: no rule has pods as peers
	rest   everywhere              // of what no selector matches
	base   everywhere              // of what the base alone matches
	groups map[string]*Group
}

// Group is the pods that the same selectors of a list match and, if a rule names ports, that have the same ports with
// names.
type Group struct {
	key     string
	rules   []int              // that match by their peers
	ports   []policy.NamedPort // nil, if no rule names any
	inBase  bool
	users   int              // kinds of pods
	classes map[int]*members // by the sets of networks that addresses of the pods are in, or nowhere
}

// members are the addresses of a group in the same networks.
type members struct {
	Class
	addresses int
	implied   bool // the list does the same with them without elements
}

// PutInto puts the list into the table of parts, with a chain of that name. It has no pods yet.
func (l *List) PutInto(parts *Parts, name string, s Selectors) *Placed {
	p := &Placed{List: l, name: name, parts: parts, Selectors: s, groups: make(map[string]*Group)}
	c := &nft.Chain{Name: name, Comment: l.comment()}
	side := frame.PeerSide(l.Direction)
	if len(s.RulesOf) > 0 {
		p.maps = make(map[nft.Family]*nft.Set)
		for _, f := range nft.Families() {
			p.maps[f] = parts.table.Set(p.mapName(f), nft.SetType{Family: f, Fields: nft.Addr, Map: true},
				"pods among the peers, to the rules for them")
			c.Rules = append(c.Rules, nft.R(nft.LookupIn(side, p.maps[f])))
		}
	}
	if s.Base >= 0 {
		p.base = l.everywhere(s.RulesOf[s.Base])
		parts.acquire(p.base.part)
		for _, f := range nft.Families() {
			c.Rules = append(c.Rules, nft.R(nft.LookupIn(side, s.Sets[f]), p.base.Verdict))
		}
	}
	p.rest = l.everywhere(nil)
	parts.acquire(p.rest.part)
	if p.rest.Verdict.Kind != nft.Return {
		c.Rules = append(c.Rules, nft.R(p.rest.Verdict))
	}
	parts.table.SetChain(c)
	return p
}

// mapName names the map of the addresses that have classes of their own.
func (p *Placed) mapName(f nft.Family) string {
	return strings.Replace(p.name, "list-", "peers-", 1) + "-" + f.String()
}

// Remove takes the list out of the table, with all its groups.
func (p *Placed) Remove() {
	t := p.parts.table
	for _, g := range p.groups {
		for _, m := range g.classes {
			p.release(m)
		}
	}
	p.parts.release(p.base.part)
	p.parts.release(p.rest.part)
	for _, f := range nft.Families() {
		t.DeleteSet(p.mapName(f))
	}
	t.DeleteChain(p.name)
}

// Group returns the group of the pods that some selectors match, in ascending order, with those ports, for one more
// kind of pods; nil is the group of those whose addresses never are elements of the list.
func (p *Placed) Group(selectors []int, ports []policy.NamedPort) *Group {
	inBase := slices.Contains(selectors, p.Base)
	if len(selectors) == 0 || inBase && len(selectors) == 1 && !p.named {
		return nil
	}
	var key []byte
	for _, i := range selectors {
		key = binary.BigEndian.AppendUint32(key, uint32(i))
	}
	if !p.named {
		ports = nil
	}
	key = fmt.Append(key, ports)
	g := p.groups[string(key)]
	if g == nil {
		g = &Group{key: string(key), ports: ports, inBase: inBase, classes: make(map[int]*members)}
		for _, i := range selectors {
			g.rules = append(g.rules, p.RulesOf[i]...)
		}
		slices.Sort(g.rules)
		g.rules = slices.Compact(g.rules)
		p.groups[g.key] = g
	}
	g.users++
	return g
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

// Move takes an address out of one group, and puts it into another. Either may be nil.
func (p *Placed) Move(a netip.Addr, from, to *Group) {
	if from == nil && to == nil {
		return
	}
	set := p.at(a)
	elements := p.maps[nft.FamilyOf(a)]
	p.parts.Edits++
	if m := p.join(to, set); m != nil && !m.implied {
		elements.Want(nft.AddrKey(a), nft.Value{Verdict: m.Verdict})
	} else {
		elements.Unwant(nft.AddrKey(a))
	}
	if from == nil {
		return
	}
	m := from.classes[set]
	if m.addresses--; m.addresses == 0 {
		delete(from.classes, set)
		p.release(m)
	}
}

// join makes one more member of a group, which may be nil, among those in the same networks.
func (p *Placed) join(g *Group, set int) *members {
	if g == nil {
		return nil
	}
	m := g.classes[set]
	if m == nil {
		m = &members{Class: p.class(g.rules, set, g.ports)}
		found := p.rest
		if g.inBase {
			found = p.base
		}
		if m.implied = m.Verdict == found.at(set); !m.implied {
			p.parts.acquire(m.part)
		}
		g.classes[set] = m
	}
	m.addresses++
	return m
}

func (p *Placed) release(m *members) {
	if !m.implied {
		p.parts.release(m.part)
	}
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
