// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"fmt"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/spec"
)

// maxInline is how many port ranges a rule of a sequence may have.
const maxInline = 256

// sequence is a list whose rules are checked one after the other: each becomes a rule in the chain for each kind of
// peer, with its ports and its verdict, so that a return verdict leaves the list.
type sequence struct {
	peers [][]int // the selectors among each rule's peers
	fits  bool    // within the bounds
}

// sequence returns the list as a sequence, given the rules' peers.
func (l *List) sequence(rulesOf [][]int) sequence {
	s := sequence{peers: make([][]int, len(l.rules))}
	for selector, rules := range rulesOf {
		for _, i := range rules {
			s.peers[i] = append(s.peers[i], selector)
		}
	}
	lines, ports := 0, 0
	for i, r := range l.rules {
		lines += 2 * (1 + len(s.peers[i])) * len(matching(r.Ports))
		if len(r.Named) > 0 {
			lines += 2 * len(s.peers[i])
		}
		ports += len(r.Networks) + len(r.Ports.Ranges)
	}
	s.fits = lines <= l.bounds.Rules && ports <= l.bounds.Ports
	return s
}

// matching returns the statements of the rules that together match some ports.
func matching(p spec.Ports) [][]nft.Statement {
	if p.Every {
		return [][]nft.Statement{nil}
	}
	var all [][]nft.Statement
	for ranges := range slices.Chunk(p.Ranges, maxInline) {
		for _, r := range nft.Rules(ranges) {
			all = append(all, r.Statements)
		}
	}
	return all
}

// sequential makes what the sequence needs, and returns the rules of its chain.
func (p *Placed) sequential(sets func(Need, nft.Family) *nft.Set) []nft.Rule {
	var rules []nft.Rule
	side := frame.PeerSide(p.Direction)
	for i, r := range p.rules {
		step := p.step(i)
		p.parts.acquire(step)
		p.steps = append(p.steps, step)
		from := slices.Clone(step.rules)
		if r.All {
			from = []nft.Rule{{}}
		}
		for _, selector := range p.sequence().peers[i] {
			for _, f := range nft.Families() {
				from = append(from, nft.R(nft.LookupIn(side, sets(Need{Selector: selector}, f))))
				if len(r.Named) > 0 {
					rules = append(rules, nft.R(nft.LookupIn(side, sets(Need{selector, r.Named}, f)), p.verdict(i)))
				}
			}
		}
		for _, rule := range from {
			for _, ports := range matching(r.Ports) {
				rules = append(rules, nft.R(slices.Concat(rule.Statements, ports, []nft.Statement{p.verdict(i)})...))
			}
		}
	}
	return withRest(rules, p.none())
}

// step is what a rule of a sequence needs: sets of its networks, and where it leads. Its rules are the lookups of the
// networks; it is not a chain.
func (p *Placed) step(rule int) *part {
	s := &part{}
	s.need(p.leaf(rule))
	for _, f := range nft.Families() {
		set := &verdictMap{typ: nft.SetType{Family: f, Fields: nft.AddrRange}}
		for n := range networks(p.rules[rule:rule+1], f) {
			set.addNetwork(n, nft.Verdict{})
		}
		if len(set.elements) > 0 {
			set.name = fmt.Sprintf("%snetworks-%s-%s", p.prefix(), set.hash(), f)
			s.addMap(set, nft.Lookup{Side: frame.PeerSide(p.Direction), Set: set.name, Type: set.typ})
		}
	}
	return s
}
