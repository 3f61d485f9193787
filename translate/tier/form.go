// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
)

// Form is how a list is represented in a table. It follows from the list and from the pods that it knows, not from
// history.
type Form uint8

// The forms.
const (
	Absent     Form = iota
	Classes         // an address is looked up once: see the package doc
	Sequential      // its classes would be too large: its rules are checked one after the other
	Refused         // that would be too large as well: everything is denied
)

// Due returns the form that the list should have.
func (p *Placed) Due() Form {
	switch {
	case !p.over && p.weight <= p.bounds.Elements && p.copied <= p.bounds.Pods:
		return Classes
	case p.sequence().fits:
		return Sequential
	}
	return Refused
}

// Form returns the form that the list has.
func (p *Placed) Form() Form { return p.form }

// Stale says whether the list lacks the form that it should have, or is incomplete in it.
func (p *Placed) Stale() bool { return p.stale || p.form != p.Due() }

// Lacks says whether the list lacks elements of its form.
func (p *Placed) Lacks() bool { return p.stale }

// Need is a selector whose pods must be in sets of the table before a list can have a form: by address or, with names,
// by the ports that have these names.
type Need struct {
	Selector int
	Names    []string
}

// Needs returns what the list needs before it can have a form.
func (p *Placed) Needs(f Form) []Need {
	var all []Need
	switch f {
	case Classes:
		for _, selector := range p.Wide {
			all = append(all, Need{Selector: selector})
		}
	case Sequential:
		for i, r := range p.rules {
			for _, selector := range p.sequence().peers[i] {
				all = append(all, Need{Selector: selector})
				if len(r.Named) > 0 {
					all = append(all, Need{selector, r.Named})
				}
			}
		}
	}
	return all
}

// Reform gives the list the form that it should have, given the sets that the form needs and all addresses in groups.
func (p *Placed) Reform(sets func(Need, nft.Family) *nft.Set, pods iter.Seq2[netip.Addr, *Group]) {
	old := *p
	p.maps, p.found, p.tree, p.steps = nil, nil, nil, nil
	p.form, p.stale = p.Due(), false
	c := &nft.Chain{Name: p.name, Comment: p.comment()}
	switch p.form {
	case Classes:
		c.Rules = p.classed(sets)
	case Sequential:
		c.Rules = p.sequential(sets)
	default:
		c.Rules = p.frame.Refuse
	}
	p.parts.table.SetChain(c)
	if p.form == Classes {
		for a, g := range pods {
			p.put(a, g)
		}
	}
	old.leave(p)
}

// classed makes everything except the classes of pods, and returns the rules of the list's chain.
func (p *Placed) classed(sets func(Need, nft.Family) *nft.Set) []nft.Rule {
	var rules []nft.Rule
	if len(p.RulesOf) > 0 {
		p.maps = make(map[nft.Family]*nft.Set)
		for _, f := range nft.Families() {
			p.maps[f] = p.parts.table.Set(p.mapName(f), nft.SetType{Family: f, Fields: nft.Addr, Map: true},
				"pods among the peers, to the rules for them")
			rules = append(rules, nft.R(nft.LookupIn(frame.PeerSide(p.Direction), p.maps[f])))
		}
	}
	for mask := range 1 << len(p.Wide) {
		p.found = append(p.found, p.everywhere(p.rulesOfMask(mask)))
	}
	b := p.branch(0, 0, sets)
	p.tree = &b.part
	p.tree.need(b.rest)
	p.parts.acquire(p.tree)
	return withRest(append(rules, b.rules...), b.rest.Verdict)
}

// branch finds out which wide selectors match an address, and says what happens to addresses that its rules do not
// find.
type branch struct {
	part
	rest Class
}

// branch returns the branch for the wide selectors from one on, given in mask which of those before match.
func (p *Placed) branch(mask, next int, sets func(Need, nft.Family) *nft.Set) branch {
	if next == len(p.Wide) {
		return branch{rest: p.found[mask].Class}
	}
	in, out := p.branch(mask|1<<next, next+1, sets), p.branch(mask, next+1, sets)
	found := p.close(in)
	if found.Verdict == p.close(out).Verdict {
		return out
	}
	b := branch{part{parts: maps.Clone(out.parts)}, out.rest}
	b.need(found)
	for _, f := range nft.Families() {
		set := sets(Need{Selector: p.Wide[next]}, f)
		b.rules = append(b.rules, nft.R(nft.LookupIn(frame.PeerSide(p.Direction), set), found.Verdict))
	}
	b.rules = append(b.rules, out.rules...)
	return b
}

// close makes a branch into a class.
func (p *Placed) close(b branch) Class {
	if len(b.rules) == 0 {
		return b.rest
	}
	chain := &part{rules: slices.Clone(b.rules), parts: maps.Clone(b.parts)}
	chain.need(b.rest)
	return p.end(chain, b.rest.Verdict)
}

// mapName names the list's map of pod addresses. Other wide selectors make another map.
func (p *Placed) mapName(f nft.Family) string {
	name := []byte(strings.Replace(p.name, "list", "peers", 1))
	for _, selector := range p.Wide[min(p.Always, len(p.Wide)):] {
		name = fmt.Appendf(name, "-%d", selector)
	}
	return string(name) + "-" + f.String()
}

// leave removes what only the old form of p needed, unless next has it.
func (p *Placed) leave(next *Placed) {
	if next.form != Classes {
		for _, g := range p.groups {
			for _, m := range g.members {
				p.parts.release(m.part)
				m.made, m.Class = false, Class{}
			}
		}
	}
	p.parts.release(p.tree)
	for _, s := range p.steps {
		p.parts.release(s)
	}
	for _, f := range nft.Families() {
		if p.maps != nil && next.maps[f] != p.maps[f] {
			p.parts.table.DeleteSet(p.mapName(f))
		}
	}
}

// Remove removes the list from the table, with all its groups; nothing may lead to it any more.
func (p *Placed) Remove() {
	p.Replaced()
	p.parts.table.DeleteChain(p.name)
}

// Replaced is [Placed.Remove] for a list whose chain has already been replaced.
func (p *Placed) Replaced() { p.leave(&Placed{}) }
