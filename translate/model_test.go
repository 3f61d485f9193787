// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/stages"
)

// model is a model of the kernel, but stricter: whatever a kernel refuses, or accepts and then misjudges, is an error.
// The zero value has no table.
type model struct {
	exists  bool
	comment string
	sets    map[string]*modelSet
	chains  map[string]*modelChain
}

type modelSet struct {
	typ      nft.SetType
	comment  string
	elements map[nft.Key]nft.Value
}

type modelChain struct {
	head  string // of its creation: hook and comment
	rules []nft.Rule
}

// settled returns the pending transaction, and then the one that deletes everything retired.
func settled(t *nft.Table) []*nft.Transaction {
	var all []*nft.Transaction
	for range 2 {
		if tx := t.Take(); tx != nil {
			all = append(all, tx)
		}
		t.Reap(t.Retired())
	}
	return all
}

// settle applies the pending transaction to the model, and then the one that deletes everything retired.
func (m *model) settle(t *nft.Table) error {
	for _, tx := range settled(t) {
		if err := m.apply(tx); err != nil {
			return fmt.Errorf("%w in\n%s", err, tx)
		}
	}
	return nil
}

// apply applies the operations of each stage in order, up to the first that is an error.
func (m *model) apply(tx *nft.Transaction) error {
	for _, stage := range stages.Of(tx) {
		for i, op := range stage.Ops {
			if err := m.op(tx, op); err != nil {
				return fmt.Errorf("operation %d, %s: %w", i, op.Describe(), err)
			}
		}
	}
	return nil
}

func (m *model) op(tx *nft.Transaction, op nft.Op) error {
	switch op.Verb {
	case nft.AddTable:
		if !m.exists {
			*m = model{exists: true, comment: tx.Comment, sets: make(map[string]*modelSet),
				chains: make(map[string]*modelChain)}
		}
		return nil
	case nft.DeleteTable:
		if !m.exists {
			return fmt.Errorf("no table")
		}
		*m = model{}
		return nil
	}
	if !m.exists {
		return fmt.Errorf("no table")
	}
	switch op.Verb {
	case nft.AddSet, nft.DeleteSet, nft.AddElements, nft.DeleteElements:
		return m.setOp(op)
	}
	return m.chainOp(op)
}

func (m *model) setOp(op nft.Op) error {
	set := m.sets[op.Set.Name]
	if (set == nil) != (op.Verb == nft.AddSet) {
		return fmt.Errorf("set exists: %t", set != nil)
	}
	switch op.Verb {
	case nft.AddSet:
		if len(op.Set.Name) > 128 || len(op.Set.Comment) > nft.MaxComment {
			return fmt.Errorf("name or comment too long")
		}
		m.sets[op.Set.Name] = &modelSet{op.Set.Type, op.Set.Comment, make(map[nft.Key]nft.Value)}
	case nft.DeleteSet:
		delete(m.sets, op.Set.Name)
		return m.intact()
	case nft.AddElements:
		for _, e := range op.Elements {
			if have, found := set.elements[e.Key]; found {
				return fmt.Errorf("element %v exists with %v", e, have)
			}
			if name := e.Verdict.Chain; name != "" && m.chains[name] == nil {
				return fmt.Errorf("element %v refers to a chain that is not there", e)
			}
			set.elements[e.Key] = e.Value
		}
		return set.disjoint()
	case nft.DeleteElements:
		for _, e := range op.Elements {
			if have, found := set.elements[e.Key]; !found || have != e.Value {
				return fmt.Errorf("no element %v (%v)", e, have)
			}
			delete(set.elements, e.Key)
		}
	}
	return nil
}

// disjoint returns an error if intervals overlap, which the kernel does not notice in time.
func (s *modelSet) disjoint() error {
	if s.typ.Fields != nft.AddrRange {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(s.elements), func(a, b nft.Key) int {
		return slices.Compare(a.Addr[:], b.Addr[:])
	})
	for i, k := range keys {
		if slices.Compare(k.Addr[:], k.To[:]) > 0 {
			return fmt.Errorf("interval %v ends before it begins", k)
		}
		if i > 0 && slices.Compare(keys[i-1].To[:], k.Addr[:]) >= 0 {
			return fmt.Errorf("intervals overlap: %v, %v", keys[i-1], k)
		}
	}
	return nil
}

func (m *model) chainOp(op nft.Op) error {
	name := op.Chain.Name
	chain := m.chains[name]
	if (chain == nil) != (op.Verb == nft.AddChain) {
		return fmt.Errorf("chain exists: %t", chain != nil)
	}
	switch op.Verb {
	case nft.AddChain:
		if len(name) > nft.MaxComment {
			return fmt.Errorf("name too long")
		}
		m.chains[name] = &modelChain{head: fmt.Sprint(op.Chain.Base) + op.Chain.Comment}
		if op.Chain.Base != nil {
			m.chains[name].head = fmt.Sprint(*op.Chain.Base) + op.Chain.Comment
		}
	case nft.FlushChain:
		chain.rules = nil
	case nft.DeleteChain:
		delete(m.chains, name)
		return m.intact()
	case nft.AddRule:
		chain.rules = append(chain.rules, *op.Rule)
		return m.refersToWhatIs(*op.Rule)
	}
	return nil
}

// intact returns an error unless everything that is referred to exists.
func (m *model) intact() error {
	for name, s := range m.sets {
		if !s.typ.Map {
			continue
		}
		for k, v := range s.elements {
			if v.Verdict.Chain != "" && m.chains[v.Verdict.Chain] == nil {
				return fmt.Errorf("element %v of %s refers to chain %s, which is not there", k, name, v.Verdict.Chain)
			}
		}
	}
	for name, c := range m.chains {
		for _, r := range c.rules {
			if err := m.refersToWhatIs(r); err != nil {
				return fmt.Errorf("chain %s: %w", name, err)
			}
		}
	}
	return nil
}

func (m *model) refersToWhatIs(r nft.Rule) error {
	for _, s := range r.Statements {
		switch s := s.(type) {
		case nft.Lookup:
			if set := m.sets[s.Set]; set == nil || set.typ != s.Type {
				return fmt.Errorf("rule %q refers to a set that is not there, or has another type", r)
			}
		case nft.Verdict:
			if s.Chain != "" && m.chains[s.Chain] == nil {
				return fmt.Errorf("rule %q refers to a chain that is not there", r)
			}
		}
	}
	return nil
}

// String returns everything in the model, in a fixed order.
func (m *model) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %t %s\n", m.exists, m.comment)
	for _, name := range slices.Sorted(maps.Keys(m.sets)) {
		s := m.sets[name]
		fmt.Fprintf(&b, "set %s %v %s\n", name, s.typ, s.comment)
		var lines []string
		for k, v := range s.elements {
			lines = append(lines, fmt.Sprintf("\t%v %v\n", k, v))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	for _, name := range slices.Sorted(maps.Keys(m.chains)) {
		fmt.Fprintf(&b, "chain %s %s\n", name, m.chains[name].head)
		for _, r := range m.chains[name].rules {
			fmt.Fprintf(&b, "\t%s\n", r)
		}
	}
	return b.String()
}

// diff returns the lines that only one of two texts has.
func diff(want, got string) string {
	count := make(map[string]int)
	for line := range strings.SplitSeq(want, "\n") {
		count[line]++
	}
	var b strings.Builder
	for line := range strings.SplitSeq(got, "\n") {
		if count[line]--; count[line] < 0 {
			fmt.Fprintf(&b, "only got:  %s\n", line)
		}
	}
	for line := range strings.SplitSeq(want, "\n") {
		if count[line] > 0 {
			fmt.Fprintf(&b, "only want: %s\n", line)
			count[line] = 0
		}
	}
	return b.String()
}
