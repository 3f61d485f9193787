// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"encoding/binary"
	"slices"
)

// Bundles merges pairs, row by row: sources with the same things to the same targets become one. If most pods are
// treated differently, there are as many pairs as workloads squared, so each list of targets is kept once, at 4 bytes
// per target.
type Bundles[K comparable] struct {
	kinds map[K]int // of this row, with their numbers
	row   []Bundle[K]
	lists [][]byte // the targets of each kind of this row
	last  int      // the last kind added

	known map[bundleKey[K]]int
	All   []Bundle[K]
}

// Bundle is a set of sources with something of one kind to each of the same targets.
type Bundle[K comparable] struct {
	bundleKey[K]
	from []int
}

type bundleKey[K comparable] struct {
	Kind K
	To   string // big-endian: the keys sort as the numbers do
}

// NewBundles returns bundles without rows.
func NewBundles[K comparable]() *Bundles[K] {
	return &Bundles[K]{kinds: make(map[K]int), known: make(map[bundleKey[K]]int)}
}

// Add notes a target of the row. They come in ascending order.
func (b *Bundles[K]) Add(kind K, to int) {
	if b.last >= len(b.row) || b.row[b.last].Kind != kind {
		b.last = Number(b.kinds, kind, func() {
			b.row = append(b.row, Bundle[K]{bundleKey: bundleKey[K]{Kind: kind}})
			if len(b.lists) < len(b.row) {
				b.lists = append(b.lists, nil)
			}
		})
	}
	b.lists[b.last] = binary.BigEndian.AppendUint32(b.lists[b.last], uint32(to))
}

// EndRow ends the row, which is from's.
func (b *Bundles[K]) EndRow(from int) {
	for i, row := range b.row {
		n, known := b.known[bundleKey[K]{row.Kind, string(b.lists[i])}]
		if !known {
			n, row.To = len(b.All), string(b.lists[i])
			b.known[row.bundleKey], b.All = n, append(b.All, row)
		}
		b.All[n].from = append(b.All[n].from, from)
		b.lists[i] = b.lists[i][:0]
	}
	b.row = b.row[:0]
	clear(b.kinds)
}

// Close says that there are no more rows, so that bundles can be dropped one by one.
func (b *Bundles[K]) Close() { b.known, b.lists = nil, nil }

// Expand returns the workloads of both sides, sorted, given the workloads that each number stands for.
func (b Bundle[K]) Expand(alike [][]int) (from, to []int) {
	targets := make([]int, 0, len(b.To)/4)
	for i := 0; i < len(b.To); i += 4 {
		targets = append(targets, int(binary.BigEndian.Uint32([]byte(b.To[i:i+4]))))
	}
	return expand(b.from, alike), expand(targets, alike)
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
