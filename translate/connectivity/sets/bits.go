// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Bitset is a set of numbers that are close to each other. The zero value is empty. Copies share memory.
type Bitset struct {
	first int      // the number of the first word
	words []uint64 // of 64 numbers each
}

// AllBits returns the numbers from from up to, but not including, to.
func AllBits(from, to int) Bitset {
	var b Bitset
	b.MakeRoom(from>>6, (to+63)>>6)
	for i := range b.words {
		b.words[i] = ^uint64(0)
	}
	if n := len(b.words) - 1; n >= 0 {
		b.words[0] &^= 1<<(from&63) - 1
		b.words[n] &= ^uint64(0) >> (-to & 63)
	}
	return b
}

// Has says whether a number is in the set.
func (b Bitset) Has(i int) bool {
	w := i>>6 - b.first
	return 0 <= w && w < len(b.words) && b.words[w]>>(i&63)&1 != 0
}

// Add adds a number. It is cheap if numbers arrive in roughly ascending order.
func (b *Bitset) Add(i int) {
	b.MakeRoom(i>>6, i>>6+1)
	b.words[i>>6-b.first] |= 1 << (i & 63)
}

// MakeRoom makes room for the words from first up to, but not including, after.
func (b *Bitset) MakeRoom(first, after int) {
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

// Unite adds the numbers of another set.
func (b *Bitset) Unite(o Bitset) {
	if len(o.words) == 0 {
		return
	}
	b.MakeRoom(o.first, o.first+len(o.words))
	into := b.words[o.first-b.first:]
	for i, w := range o.words {
		into[i] |= w
	}
}

// Each yields the numbers in ascending order.
func (b Bitset) Each(yield func(int) bool) {
	for i, w := range b.words {
		for ; w != 0; w &= w - 1 {
			if !yield((b.first+i)<<6 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}

// Replace replaces the values at the numbers of a set by next of them, which it calls once for equal neighbours.
func Replace[V comparable](values []V, at Bitset, next func(V) V) {
	var last, now V
	none := true
	for i := range at.Each {
		if values[i] != last || none {
			last, none = values[i], false
			now = next(last)
		}
		values[i] = now
	}
}

// EachOf yields the numbers that are in another set too, in ascending order.
func (b Bitset) EachOf(o Bitset) func(func(int) bool) {
	return func(yield func(int) bool) {
		first := max(b.first, o.first)
		for n := first; n < min(b.first+len(b.words), o.first+len(o.words)); n++ {
			for w := b.words[n-b.first] & o.words[n-o.first]; w != 0; w &= w - 1 {
				if !yield(n<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Empty says whether nothing is in the set.
func (b Bitset) Empty() bool {
	return !slices.ContainsFunc(b.words, func(w uint64) bool { return w != 0 })
}

// Intersect leaves only the numbers that are in both sets.
func (b Bitset) Intersect(o Bitset) {
	for i := range b.words {
		if n := b.first + i - o.first; 0 <= n && n < len(o.words) {
			b.words[i] &= o.words[n]
		} else {
			b.words[i] = 0
		}
	}
}

// Subtract removes the numbers of another set.
func (b Bitset) Subtract(o Bitset) {
	for i := range b.words {
		if n := b.first + i - o.first; 0 <= n && n < len(o.words) {
			b.words[i] &^= o.words[n]
		}
	}
}

// Partition divides the numbers from 0 into sets.
type Partition struct {
	Of    []int // the set of each
	Count int
}

// Split divides each set into the numbers that are in some, and the others.
func (p *Partition) Split(some Bitset) {
	moved := make(map[int]int)
	for i := range some.Each {
		to, known := moved[p.Of[i]]
		if !known {
			to = p.Count
			moved[p.Of[i]], p.Count = to, p.Count+1
		}
		p.Of[i] = to
	}
}

// Renumber numbers the sets from 0, in the order of their first numbers.
func (p *Partition) Renumber() {
	ids := make(map[int]int)
	for i, set := range p.Of {
		p.Of[i] = Number(ids, set, func() {})
	}
	p.Count = len(ids)
}

// Flip adds or removes a number; there must be room for it.
func (b Bitset) Flip(i int) { b.words[i>>6-b.first] ^= 1 << (i & 63) }

// Clear removes all numbers.
func (b Bitset) Clear() { clear(b.words) }

// Clone returns a copy that shares no memory.
func (b Bitset) Clone() Bitset { return Bitset{b.first, slices.Clone(b.words)} }

// Key returns a key that is equal for equal sets with room for the same numbers.
func (b Bitset) Key() string {
	key := make([]byte, 0, 8*len(b.words))
	for _, w := range b.words {
		key = binary.LittleEndian.AppendUint64(key, w)
	}
	return string(key)
}

// Near says whether any of the 64 numbers in i's word is in the set.
func (b Bitset) Near(i int) bool {
	w := i>>6 - b.first
	return 0 <= w && w < len(b.words) && b.words[w] != 0
}

// Groups returns the indexes of each number in all.
func Groups(all []int) [][]int {
	var groups [][]int
	for i, n := range all {
		for n >= len(groups) {
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], i)
	}
	return groups
}

// Number returns the number of a key. For a new one, it calls add, which must append to the numbered list.
func Number[K comparable, N ~int | ~int32](ids map[K]N, key K, add func()) N {
	id, known := ids[key]
	if !known {
		id = N(len(ids))
		ids[key] = id
		add()
	}
	return id
}
