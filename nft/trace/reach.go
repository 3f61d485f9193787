// SPDX-License-Identifier: Apache-2.0

package trace

import "github.com/netpold/netpold/nft"

// Reached is what can be reached from a chain.
type Reached struct {
	Sets   []string
	Chains []string // including the chain itself
	Weight int      // the total, in elements; see [nft.Op.Weight]
}

// Reach returns what can be reached from a chain by jumps, gotos and lookups, without entering chains for which stop is
// true.
func Reach(t *nft.Table, chain string, stop func(chain string) bool) Reached {
	r := reach{table: t, stop: stop, seen: make(map[string]bool)}
	r.chain(chain)
	return r.Reached
}

type reach struct {
	Reached
	table *nft.Table
	stop  func(string) bool
	seen  map[string]bool // "chain NAME" and "set NAME"
}

func (r *reach) chain(name string) {
	c := r.table.Chain(name)
	if c == nil || r.stop(name) || r.seen["chain "+name] {
		return
	}
	r.seen["chain "+name] = true
	r.Chains = append(r.Chains, name)
	r.Weight += nft.PerObject
	for i := range c.Rules {
		rule := &c.Rules[i]
		r.Weight += nft.Op{Rule: rule}.Weight()
		for _, s := range rule.Statements {
			switch s := s.(type) {
			case nft.Verdict:
				r.chain(s.Chain)
			case nft.Lookup:
				r.set(s.Set)
			}
		}
	}
}

func (r *reach) set(name string) {
	s := r.table.FindSet(name)
	if s == nil || r.seen["set "+name] {
		return
	}
	r.seen["set "+name] = true
	r.Sets = append(r.Sets, name)
	r.Weight += nft.PerObject + s.Len()
	if !s.Type.Map {
		return
	}
	last := ""
	for _, v := range s.All() {
		if v.Verdict.Chain != "" && v.Verdict.Chain != last { // usually the same
			last = v.Verdict.Chain
			r.chain(last)
		}
	}
}
