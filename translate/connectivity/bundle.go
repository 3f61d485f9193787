// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"encoding/binary"
	"slices"
)

// bundles takes pairs together, row by row: sources from which the same goes to the same targets are one. Of a cluster
// where most pods are treated in ways of their own there are as many pairs as workloads squared, so a list of targets
// is kept once, in 4 bytes for each.
type bundles[K comparable] struct {
	kinds map[K]int // of this row, by number
	row   []bundle[K]
	lists [][]byte // the targets of each kind of this row
	last  int      // the kind that came last

	known map[bundleKey[K]]int
	all   []bundle[K]
}

// bundle is sources, from each of which something of one kind goes to each of the targets.
type bundle[K comparable] struct {
	bundleKey[K]
	from []int
}

type bundleKey[K comparable] struct {
	kind K
	to   string // big-endian: the keys sort as the numbers do
}

func newBundles[K comparable]() *bundles[K] {
	return &bundles[K]{kinds: make(map[K]int), known: make(map[bundleKey[K]]int)}
}

// add notes a target of the row. They come in ascending order.
func (b *bundles[K]) add(kind K, to int) {
	if b.last >= len(b.row) || b.row[b.last].kind != kind {
		b.last = number(b.kinds, kind, func() {
			b.row = append(b.row, bundle[K]{bundleKey: bundleKey[K]{kind: kind}})
			if len(b.lists) < len(b.row) {
				b.lists = append(b.lists, nil)
			}
		})
	}
	b.lists[b.last] = binary.BigEndian.AppendUint32(b.lists[b.last], uint32(to))
}

// endRow says what source the row is of.
func (b *bundles[K]) endRow(from int) {
	for i, row := range b.row {
		n, known := b.known[bundleKey[K]{row.kind, string(b.lists[i])}]
		if !known {
			n, row.to = len(b.all), string(b.lists[i])
			b.known[row.bundleKey], b.all = n, append(b.all, row)
		}
		b.all[n].from = append(b.all[n].from, from)
		b.lists[i] = b.lists[i][:0]
	}
	b.row = b.row[:0]
	clear(b.kinds)
}

// expand returns the workloads of both sides, sorted, given those that each number stands for.
func (b bundle[K]) expand(alike [][]int) (from, to []int) {
	targets := make([]int, 0, len(b.to)/4)
	for i := 0; i < len(b.to); i += 4 {
		targets = append(targets, int(binary.BigEndian.Uint32([]byte(b.to[i:i+4]))))
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
