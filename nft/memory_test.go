// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/netpold/netpold/nft"
)

// memory is a stand-in for the kernel. It applies transactions as strictly as the kernel, or more so: it refuses what a
// table should not need, such as adding what exists already.
type memory struct {
	table  bool // there is one
	sets   map[string]*memorySet
	chains map[string]*nft.Chain
}

type memorySet struct {
	typ      nft.SetType
	comment  string
	elements map[nft.Key]nft.Value
}

// The kernel's errors.
var (
	errExist = errors.New("EEXIST")
	errNone  = errors.New("ENOENT")
	errBusy  = errors.New("EBUSY")
	errBase  = errors.New("EOPNOTSUPP")
)

// apply commits all of the transaction or, with an error, nothing.
func (m *memory) apply(tx *nft.Transaction) error {
	next := m.clone()
	for _, op := range tx.Ops {
		if err := next.do(op); err != nil {
			return fmt.Errorf("%s: %w", op.Describe(), err)
		}
	}
	*m = *next
	return nil
}

func (m *memory) clone() *memory {
	c := &memory{table: m.table, sets: make(map[string]*memorySet), chains: make(map[string]*nft.Chain)}
	for name, s := range m.sets {
		c.sets[name] = &memorySet{s.typ, s.comment, maps.Clone(s.elements)}
	}
	for name, chain := range m.chains {
		c.chains[name] = &nft.Chain{Name: name, Comment: chain.Comment, Base: chain.Base,
			Rules: slices.Clone(chain.Rules)}
	}
	return c
}

func (m *memory) do(op nft.Op) error {
	switch op.Verb {
	case nft.AddTable:
		m.table = true
		return nil
	case nft.DeleteTable:
		if !m.table {
			return errNone
		}
		*m = *new(memory).clone()
		return nil
	}
	if !m.table {
		return errNone
	}
	if op.Set != nil {
		return m.doSet(op)
	}
	return m.doChain(op)
}

func (m *memory) doSet(op nft.Op) error {
	s := m.sets[op.Set.Name]
	if op.Verb == nft.AddSet {
		if s != nil {
			return errExist
		}
		m.sets[op.Set.Name] = &memorySet{op.Set.Type, op.Set.Comment, make(map[nft.Key]nft.Value)}
		return nil
	}
	if s == nil || s.typ != op.Set.Type {
		return errNone
	}
	switch op.Verb {
	case nft.DeleteSet:
		if m.setInUse(op.Set.Name) {
			return errBusy
		}
		delete(m.sets, op.Set.Name)
	case nft.AddElements:
		return m.addElements(s, op.Elements)
	case nft.DeleteElements:
		for _, e := range op.Elements {
			if have, ok := s.elements[e.Key]; !ok || have != e.Value {
				return errNone
			}
			delete(s.elements, e.Key)
		}
	}
	return nil
}

func (m *memory) addElements(s *memorySet, elements []nft.Element) error {
	for _, e := range elements {
		if _, ok := s.elements[e.Key]; ok {
			return errExist
		}
		for have := range s.elements {
			if s.typ.Fields == nft.AddrRange && overlap(have, e.Key) {
				return errExist
			}
		}
		if err := m.target(e.Verdict); err != nil {
			return err
		}
		s.elements[e.Key] = e.Value
	}
	return nil
}

func overlap(a, b nft.Key) bool {
	return bytes.Compare(a.Addr[:], b.To[:]) <= 0 && bytes.Compare(b.Addr[:], a.To[:]) <= 0
}

// target says whether a verdict's chain exists.
func (m *memory) target(v nft.Verdict) error {
	switch c := m.chains[v.Chain]; {
	case v.Chain == "":
		return nil
	case c == nil:
		return errNone
	case c.Base != nil:
		return errBase
	}
	return nil
}

func (m *memory) doChain(op nft.Op) error {
	c := m.chains[op.Chain.Name]
	if op.Verb == nft.AddChain {
		if c != nil {
			return errExist
		}
		m.chains[op.Chain.Name] = &nft.Chain{Name: op.Chain.Name, Comment: op.Chain.Comment, Base: op.Chain.Base}
		return nil
	}
	if c == nil {
		return errNone
	}
	switch op.Verb {
	case nft.FlushChain:
		c.Rules = nil
	case nft.DeleteChain:
		if m.chainInUse(c.Name) {
			return errBusy
		}
		delete(m.chains, c.Name)
	case nft.AddRule:
		for _, s := range op.Rule.Statements {
			if err := m.statement(s); err != nil {
				return err
			}
		}
		c.Rules = append(c.Rules, *op.Rule)
	}
	return nil
}

// statement says whether what a statement refers to exists.
func (m *memory) statement(s nft.Statement) error {
	switch s := s.(type) {
	case nft.Verdict:
		return m.target(s)
	case nft.Lookup:
		if set := m.sets[s.Set]; set == nil || set.typ != s.Type {
			return errNone
		}
	}
	return nil
}

func (m *memory) setInUse(name string) bool {
	return m.anyStatement(func(s nft.Statement) bool {
		l, ok := s.(nft.Lookup)
		return ok && l.Set == name
	})
}

func (m *memory) chainInUse(name string) bool {
	for _, s := range m.sets {
		for _, v := range s.elements {
			if v.Verdict.Chain == name {
				return true
			}
		}
	}
	return m.anyStatement(func(s nft.Statement) bool {
		v, ok := s.(nft.Verdict)
		return ok && v.Chain == name
	})
}

// anyStatement says whether any rule has such a statement.
func (m *memory) anyStatement(such func(nft.Statement) bool) bool {
	for _, c := range m.chains {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r.Statements, such) {
				return true
			}
		}
	}
	return false
}

// fresh returns a new table that wants what the memory has.
func (m *memory) fresh() *nft.Table {
	t := nft.NewTable("t", "")
	for name, s := range m.sets {
		set := t.Set(name, s.typ, s.comment)
		for k, v := range s.elements {
			set.Want(k, v)
		}
	}
	for _, c := range m.clone().chains {
		t.SetChain(c)
	}
	return t
}
