// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/opening"
)

// part is a chain with the maps that it looks up, named by their content, and the parts that it leads to.
type part struct {
	name    string // "" if it is not a chain
	comment string
	rules   []nft.Rule
	maps    []*verdictMap
	parts   map[string]*part // by name
}

// verdictMap is a map that never changes.
type verdictMap struct {
	name     string
	typ      nft.SetType
	elements []nft.Element
}

// addNetwork adds an interval, or joins it to the last one.
func (m *verdictMap) addNetwork(n opening.Piece, v nft.Verdict) {
	if i := len(m.elements) - 1; i >= 0 {
		last := &m.elements[i]
		if last.Verdict == v && nft.PairKey(n.First.Prev(), n.First.Prev()).To == last.To {
			last.To = nft.PairKey(n.Last, n.Last).To
			return
		}
	}
	m.elements = append(m.elements, nft.Element{Key: nft.PairKey(n.First, n.Last), Value: nft.Value{Verdict: v}})
}

// hash returns the hash of the map's content.
func (m *verdictMap) hash() string {
	fields := make([]string, len(m.elements))
	for i, e := range m.elements {
		fields[i] = e.Text(m.typ)
	}
	return nft.Hash(fields...)
}

// addMap adds a map, and the rule that looks it up.
func (p *part) addMap(m *verdictMap, lookup nft.Statement) {
	p.maps = append(p.maps, m)
	p.rules = append(p.rules, nft.R(lookup))
}

// need adds the part that a class leads to, once.
func (p *part) need(c Class) {
	if c.part == nil {
		return
	}
	if p.parts == nil {
		p.parts = make(map[string]*part)
	}
	p.parts[c.part.name] = c.part
}

// Parts are the chains and maps of classes in a table. Each exists as long as it has users.
type Parts struct {
	Edits int // of elements, so far

	table *nft.Table
	users map[string]int
}

// NewParts returns the parts of a table that has none yet.
func NewParts(t *nft.Table) *Parts { return &Parts{table: t, users: make(map[string]int)} }

// acquire adds a user of a part, which may be nil.
func (ps *Parts) acquire(p *part) {
	if p == nil {
		return
	}
	if p.name != "" {
		ps.users[p.name]++
	}
	if ps.users[p.name] > 1 {
		return
	}
	for _, inner := range p.parts {
		ps.acquire(inner)
	}
	for _, m := range p.maps {
		ps.users[m.name]++
		if ps.users[m.name] > 1 {
			continue
		}
		set := ps.table.Set(m.name, m.typ, "")
		for _, e := range m.elements {
			set.Want(e.Key, e.Value)
		}
		ps.Edits += len(m.elements)
	}
	if p.name == "" {
		return
	}
	ps.table.SetChain(&nft.Chain{Name: p.name, Comment: p.comment, Rules: p.rules})
}

// release takes back one [Parts.acquire] of an equal part.
func (ps *Parts) release(p *part) {
	if p == nil || p.name != "" && !ps.leave(p.name) {
		return
	}
	ps.table.DeleteChain(p.name)
	for _, m := range p.maps {
		if ps.leave(m.name) {
			ps.table.DeleteSet(m.name)
		}
	}
	for _, inner := range p.parts {
		ps.release(inner)
	}
}

// leave removes a user of a name, and says whether it was the last.
func (ps *Parts) leave(name string) bool {
	ps.users[name]--
	if ps.users[name] > 0 {
		return false
	}
	delete(ps.users, name)
	return true
}

// Users returns the number of users of each chain and map.
func (ps *Parts) Users() map[string]int { return ps.users }
