// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"encoding/binary"
	"slices"
)

// Bundles takes pairs together, row by row: sources from which the same goes to the same targets are one. Of a cluster
// where most pods are treated in ways of their own there are as many pairs as workloads squared, so a list of targets
// is kept once, in 4 bytes for each.
type Bundles[K comparable] struct {
	kinds map[K]int // of this row, by number
	row   []Bundle[K]
	lists [][]byte // the targets of each kind of this row
	last  int      // the kind that came last

	known map[bundleKey[K]]int
	All   []Bundle[K]
}

// Bundle is sources, from each of which something of one kind goes to each of the targets.
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

// EndRow says what source the row is of.
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

// Expand returns the workloads of both sides, sorted, given those that each number stands for.
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
