// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"math/bits"
	"slices"
)

// bitset is a set of numbers that are near each other. The zero value is empty. Copies share what is in them.
type bitset struct {
	first int      // the number of the first word
	words []uint64 // of 64 numbers each
}

// allBits returns the numbers from one on to before another.
func allBits(from, to int) bitset {
	var b bitset
	b.makeRoom(from>>6, (to+63)>>6)
	for i := range b.words {
		b.words[i] = ^uint64(0)
	}
	if n := len(b.words) - 1; n >= 0 {
		b.words[0] &^= 1<<(from&63) - 1
		b.words[n] &= ^uint64(0) >> (-to & 63)
	}
	return b
}

func (b bitset) has(i int) bool {
	w := i>>6 - b.first
	return 0 <= w && w < len(b.words) && b.words[w]>>(i&63)&1 != 0
}

// add adds a number. It is cheap where numbers come in about ascending order.
func (b *bitset) add(i int) {
	b.makeRoom(i>>6, i>>6+1)
	b.words[i>>6-b.first] |= 1 << (i & 63)
}

// makeRoom makes room for some words.
func (b *bitset) makeRoom(first, after int) {
	if len(b.words) == 0 {
		b.first = first
	}
	if first < b.first {
		b.words, b.first = slices.Insert(b.words, 0, make([]uint64, b.first-first)...), first
	}
	if more := after - b.first - len(b.words); more > 0 {
		b.words = append(b.words, make([]uint64, more)...)
	}
}

// unite adds the numbers of another set.
func (b *bitset) unite(o bitset) {
	if len(o.words) == 0 {
		return
	}
	b.makeRoom(o.first, o.first+len(o.words))
	into := b.words[o.first-b.first:]
	for i, w := range o.words {
		into[i] |= w
	}
}

// each yields the numbers in ascending order.
func (b bitset) each(yield func(int) bool) {
	for i, w := range b.words {
		for ; w != 0; w &= w - 1 {
			if !yield((b.first+i)<<6 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}

func (b bitset) empty() bool {
	return !slices.ContainsFunc(b.words, func(w uint64) bool { return w != 0 })
}

// intersect leaves only the numbers that are in both sets.
func (b bitset) intersect(o bitset) {
	for i := range b.words {
		if n := b.first + i - o.first; 0 <= n && n < len(o.words) {
			b.words[i] &= o.words[n]
		} else {
			b.words[i] = 0
		}
	}
}

// subtract takes the numbers of another set away.
func (b bitset) subtract(o bitset) {
	for i := range b.words {
		if n := b.first + i - o.first; 0 <= n && n < len(o.words) {
			b.words[i] &^= o.words[n]
		}
	}
}

// partition parts the numbers from 0 on into sets, by what they are in.
type partition struct {
	of    []int // the set of each
	count int
}

// split parts each set into those that are among some numbers, and the others.
func (p *partition) split(some bitset) {
	moved := make(map[int]int)
	for i := range some.each {
		to, known := moved[p.of[i]]
		if !known {
			to = p.count
			moved[p.of[i]], p.count = to, p.count+1
		}
		p.of[i] = to
	}
}

// renumber numbers the sets from 0 on, in the order of the first number of each.
func (p *partition) renumber() {
	ids := make(map[int]int)
	for i, set := range p.of {
		p.of[i] = number(ids, set, func() {})
	}
	p.count = len(ids)
}
