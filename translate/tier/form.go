// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"iter"
	"net/netip"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
)

// Form is how a list is in a table. It follows from the list and from the pods that it knows, whatever was before.
type Form uint8

// The forms.
const (
	Absent     Form = iota
	Classes         // an address is looked up once: see the package
	Sequential      // its classes would be too large: its rules are asked one after the other
	Refused         // that would be too large, too: everything is denied
)

// Due returns the form that the list should have.
func (p *Placed) Due() Form {
	switch {
	case !p.wide && p.weight <= p.bounds.Elements:
		return Classes
	case p.sequence.fits:
		return Sequential
	}
	return Refused
}

// Form returns the form that the list has.
func (p *Placed) Form() Form { return p.form }

// Stale says whether the list has not the form that it should have, or is not complete in it.
func (p *Placed) Stale() bool { return p.stale || p.form != p.Due() }

// Needs returns the selectors whose pods have to be in sets of the table before the list can have a form.
func (p *Placed) Needs(f Form) []int {
	switch {
	case f == Classes && p.Base >= 0:
		return []int{p.Base}
	case f == Sequential:
		all := make([]int, len(p.RulesOf))
		for i := range all {
			all[i] = i
		}
		return all
	}
	return nil
}

// Reform gives the list the form that it should have. The sets that the form needs are those of the selectors' pods.
// It is shown all addresses that are in groups.
func (p *Placed) Reform(sets func(selector int, f nft.Family) *nft.Set, pods iter.Seq2[netip.Addr, *Group]) {
	old := *p
	p.maps, p.base, p.rest, p.steps = nil, everywhere{}, everywhere{}, nil
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
	if p.form == Classes || p.form == Sequential && p.named {
		for a, g := range pods {
			p.put(a, g, g.ports)
		}
	}
	old.leave(p)
}

// classed makes what the list has but for the classes of pods, and returns the rules of its chain.
func (p *Placed) classed(sets func(int, nft.Family) *nft.Set) []nft.Rule {
	var rules []nft.Rule
	side := frame.PeerSide(p.Direction)
	if len(p.RulesOf) > 0 {
		p.maps = make(map[nft.Family]*nft.Set)
		for _, f := range nft.Families() {
			p.maps[f] = p.parts.table.Set(p.setName("peers", f), nft.SetType{Family: f, Fields: nft.Addr, Map: true},
				"pods among the peers, to the rules for them")
			rules = append(rules, nft.R(nft.LookupIn(side, p.maps[f])))
		}
	}
	if p.Base >= 0 {
		p.base = p.everywhere(p.RulesOf[p.Base])
		p.parts.acquire(p.base.part)
		for _, f := range nft.Families() {
			rules = append(rules, nft.R(nft.LookupIn(side, sets(p.Base, f)), p.base.Verdict))
		}
	}
	p.rest = p.everywhere(nil)
	p.parts.acquire(p.rest.part)
	return withRest(rules, p.rest.Verdict)
}

// leave removes what only the form was there for that p has left for another, which next has.
func (p *Placed) leave(next *Placed) {
	if next.form != Classes {
		for _, g := range p.groups {
			for _, m := range g.members {
				p.parts.release(m.part)
				m.made, m.Class = false, Class{}
			}
		}
	}
	p.parts.release(p.base.part)
	p.parts.release(p.rest.part)
	for _, s := range p.steps {
		p.parts.release(s)
	}
	for _, f := range nft.Families() {
		if next.maps == nil {
			p.parts.table.DeleteSet(p.setName("peers", f))
		}
		for i := range p.rules {
			if p.named && next.form != Sequential {
				p.parts.table.DeleteSet(p.namedSet(i, f))
			}
		}
	}
}

// Remove takes the list out of the table, with all its groups.
func (p *Placed) Remove() {
	p.leave(&Placed{})
	p.parts.table.DeleteChain(p.name)
}
