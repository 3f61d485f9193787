// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Shape is how much a table holds. It is fast to read, and reveals changes by others, except those that remove as much
// as they add.
type Shape struct {
	Owned  bool           // by the reader, so that nobody else can change it; the rest is not read then
	Chains map[string]int // uses of each: the rules in the chain, and the rules and elements that lead to it
	Sets   map[string]int // elements of each, or Unknown; without anonymous sets
}

// Unknown stands for the size of a set that packets change, or whose size the kernel does not report.
const Unknown = -1

// Shape returns the shape of the table that the kernel should hold, if that is known. Its cost is proportional to the
// elements of all maps.
func (t *Table) Shape() (Shape, bool) {
	if !t.known {
		return Shape{}, false
	}
	s := Shape{Chains: make(map[string]int), Sets: make(map[string]int)}
	for name, chain := range t.chains.Held() {
		s.Chains[name] += len(chain.Rules)
		for statement := range chain.statements() {
			if v, ok := statement.(Verdict); ok {
				s.use(v)
			}
		}
	}
	for name, set := range t.sets {
		if !set.elements.known() {
			continue
		}
		s.Sets[name] = set.elements.heldLen()
		if set.Type.Dynamic != (Dynamic{}) {
			s.Sets[name] = Unknown // packets change it
		}
		if set.Type.Map {
			for _, v := range set.elements.others.Held() {
				s.use(v.Verdict)
			}
		}
	}
	return s, true
}

// use counts a verdict that leads to a chain.
func (s Shape) use(v Verdict) {
	if v.Chain != "" {
		s.Chains[v.Chain]++
	}
}

// Difference says in words where read differs from the shape, or returns "".
func (s Shape) Difference(read Shape) string {
	if read.Owned {
		return ""
	}
	return cmp.Or(difference("chain", "uses", s.Chains, read.Chains), difference("set", "elements", s.Sets, read.Sets))
}

// difference returns the first difference of counts, by name.
func difference(object, counted string, want, read map[string]int) string {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch n, ok := read[name]; {
		case !ok:
			return fmt.Sprintf("%s %s is gone", object, name)
		case n != want[name] && n != Unknown && want[name] != Unknown:
			return fmt.Sprintf("%s %s has %d %s, not %d", object, name, n, counted, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		if _, ok := want[name]; !ok {
			return fmt.Sprintf("%s %s was added", object, name)
		}
	}
	return ""
}
