// SPDX-License-Identifier: Apache-2.0

package nft

// Reached is what the way through a chain may lead to.
type Reached struct {
	Sets   []string
	Chains []string // itself, too
	Weight int      // of all that, in elements; see [Transaction.Stages]
}

// Reach returns what the way through a chain may lead to, by jumps, gotos and lookups, but not into the chains that
// stop is true for.
func (t *Table) Reach(chain string, stop func(chain string) bool) Reached {
	r := reach{table: t, stop: stop, seen: make(map[string]bool)}
	r.chain(chain)
	return r.Reached
}

type reach struct {
	Reached
	table *Table
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
	r.Weight += perObject
	for i := range c.Rules {
		rule := &c.Rules[i]
		r.Weight += Op{Rule: rule}.weight()
		for _, s := range rule.Statements {
			switch s := s.(type) {
			case Verdict:
				r.chain(s.Chain)
			case Lookup:
				r.set(s.Set)
			case PortLookup:
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
	r.Weight += perObject + s.Len()
	if !s.Type.Map {
		return
	}
	last := ""
	for _, v := range s.elements.all() {
		if v.Verdict.Chain != "" && v.Verdict.Chain != last { // most often the same
			last = v.Verdict.Chain
			r.chain(last)
		}
	}
}
