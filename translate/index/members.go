// SPDX-License-Identifier: Apache-2.0

package index

import (
	"math/bits"
	"slices"
)

// numbers is a set of numbers, a bit for each.
type numbers []uint64

func (ns numbers) add(n uint32)      { ns[n/64] |= 1 << (n % 64) }
func (ns numbers) remove(n uint32)   { ns[n/64] &^= 1 << (n % 64) }
func (ns numbers) has(n uint32) bool { return ns[n/64]&(1<<(n%64)) != 0 }

// len is how many there are.
func (ns numbers) len() int {
	n := 0
	for _, word := range ns {
		n += bits.OnesCount64(word)
	}
	return n
}

// sized returns an empty set of some words, reusing the memory if it is enough.
func (ns numbers) sized(words int) numbers {
	ns = slices.Grow(ns[:0], words)[:words]
	clear(ns)
	return ns
}

// all yields each number, in ascending order.
func (ns numbers) all(yield func(n uint32) bool) {
	for i, word := range ns {
		for ; word != 0; word &= word - 1 {
			if !yield(uint32(i*64 + bits.TrailingZeros64(word))) {
				return
			}
		}
	}
}

// members are the numbers of the identities that have a term, in the smallest form: a list or, if there are many, a
// set. Usually it is a single number, for example if each pod has a label of its own.
type members struct {
	one  uint32
	more *several // nil: one
}

type several struct {
	count int
	list  []uint32
	set   numbers // nil: see list
}

// len is how many there are.
func (m *members) len() int {
	if m.more == nil {
		return 1
	}
	return m.more.count
}

// with adds n, which is none of them; a set of all numbers has that many words.
func (m *members) with(n uint32, words int) {
	s := m.more
	if s == nil {
		m.more = &several{count: 2, list: []uint32{m.one, n}}
		return
	}
	s.count++
	if s.set == nil && s.count <= 2*words+8 {
		s.list = append(s.list, n)
		return
	}
	if len(s.set) < words {
		s.set = append(s.set, make(numbers, words-len(s.set))...)
	}
	s.set.add(n)
	for _, have := range s.list {
		s.set.add(have)
	}
	s.list = nil
}

// without removes n, which is one of several.
func (m *members) without(n uint32) {
	s := m.more
	s.count--
	if s.set == nil {
		i := slices.Index(s.list, n)
		s.list[i] = s.list[s.count]
		s.list = s.list[:s.count]
	} else if s.set.remove(n); s.count <= len(s.set) {
		s.list = slices.AppendSeq(s.list, s.set.all)
		s.set = nil
	}
	if s.set == nil && s.count == 1 {
		*m = members{one: s.list[0]}
	}
}

// addTo adds the members to a set with room for all identities.
func (m *members) addTo(to numbers) {
	if m.more == nil {
		to.add(m.one)
		return
	}
	for _, n := range m.more.list {
		to.add(n)
	}
	for i, word := range m.more.set {
		to[i] |= word
	}
}

// removeFrom removes the members from a set with room for all identities.
func (m *members) removeFrom(from numbers) {
	if m.more == nil {
		from.remove(m.one)
		return
	}
	for _, n := range m.more.list {
		from.remove(n)
	}
	for i, word := range m.more.set {
		from[i] &^= word
	}
}
