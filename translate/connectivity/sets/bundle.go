// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"encoding/binary"
	"slices"
)

// Bundles merges pairs, row by row: sources with the same things to the same targets become one. If most pods are
// treated differently, there are as many pairs as workloads squared, so each list of targets is kept once, at some 1
// byte per target.
type Bundles[K comparable] struct {
	kinds map[K]int // of this row, with their numbers
	row   []bundle[K]
	lists [][]byte // the targets of each kind of this row
	last  int      // the last kind added
	known map[bundleKey[K]]int
	all   []bundle[K]
	kept  int // targets

	Room int // how many sources and targets [Bundles.Expand] may list
}

// Full says whether there is more than can be listed.
func (b *Bundles[K]) Full() bool { return b.kept > b.Room }

// Bundle is what sources have something of one kind to, all of them to each of the targets.
type Bundle[K comparable] struct {
	Kind     K
	From, To []int
}

// bundle is a bundle in short.
type bundle[K comparable] struct {
	bundleKey[K]
	from []int
	end  int // the last target so far, and one
}

type bundleKey[K comparable] struct {
	kind K
	to   string // the difference of each target and the one before
}

// NewBundles returns bundles without rows, with room for a gigabyte.
func NewBundles[K comparable]() *Bundles[K] {
	return &Bundles[K]{kinds: make(map[K]int), known: make(map[bundleKey[K]]int), Room: 1 << 27}
}

// Add notes a target of the row. They come in ascending order.
func (b *Bundles[K]) Add(kind K, to int) {
	if b.last >= len(b.row) || b.row[b.last].kind != kind {
		b.last = Number(b.kinds, kind, func() {
			b.row = append(b.row, bundle[K]{bundleKey: bundleKey[K]{kind: kind}})
			if len(b.lists) < len(b.row) {
				b.lists = append(b.lists, nil)
			}
		})
	}
	of := &b.row[b.last]
	b.lists[b.last] = binary.AppendUvarint(b.lists[b.last], uint64(to-of.end))
	of.end = to + 1
}

// EndRow ends the row of some sources.
func (b *Bundles[K]) EndRow(from ...int) {
	for i, row := range b.row {
		n, known := b.known[bundleKey[K]{row.kind, string(b.lists[i])}]
		if !known {
			n, row.to = len(b.all), string(b.lists[i])
			b.known[row.bundleKey], b.all = n, append(b.all, row)
			b.kept += len(row.to)
		}
		b.all[n].from = append(b.all[n].from, from...)
		b.lists[i] = b.lists[i][:0]
	}
	b.row = b.row[:0]
	clear(b.kinds)
}

// Expand returns the bundles with sides that are sorted, given the workloads that each number stands for, and forgets
// them. There are no more rows. If there is too much to list, the rest is missing.
func (b *Bundles[K]) Expand(alike [][]int) []Bundle[K] {
	b.known, b.kept = nil, 0
	expanded := make([]Bundle[K], 0, len(b.all))
	for i, of := range b.all {
		targets := make([]int, 0, len(of.to))
		next := 0
		for list := []byte(of.to); len(list) > 0; next++ {
			skipped, size := binary.Uvarint(list)
			next, list = next+int(skipped), list[size:]
			targets = append(targets, next)
		}
		one := Bundle[K]{of.kind, expand(of.from, alike), expand(targets, alike)}
		if b.kept += len(one.From) + len(one.To); b.Full() {
			break
		}
		expanded, b.all[i] = append(expanded, one), bundle[K]{}
	}
	return expanded
}

func expand(some []int, alike [][]int) []int {
	n := 0
	for _, i := range some {
		n += len(alike[i])
	}
	all := make([]int, 0, n)
	for _, i := range some {
		all = append(all, alike[i]...)
	}
	slices.Sort(all)
	return all
}
