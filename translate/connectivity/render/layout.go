// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// box is a rectangle of a picture, in pixels.
type box struct{ x, y, w, h float64 }

// Sizes of a picture, in pixels.
const (
	cardWidth  = 176.0
	cardHeight = 44.0
	rowGap     = 14.0
	columnGap  = 64.0
	padding    = 18.0
	boxGap     = 46.0
	lineHeight = 15.0
	maxRows    = 10 // of a column of cards
)

// layout has the place of everything in a graph.
type layout struct {
	graph
	nodes         []box // of graph's nodes, including whole namespaces
	names         []string
	namespaces    map[string]box
	lines         map[int][]string // of nodes that are not workloads
	width, height float64
	title         float64 // font size of namespace names, the only readable text of a large picture
}

// titleHeight is the height of a namespace's title.
func (l *layout) titleHeight() float64 { return 1.9 * l.title }

// titleOf returns the place of a namespace's title, which is smaller in a narrow box.
func (l *layout) titleOf(ns string) box {
	const perLetter = 0.62 // of the font size
	r := l.namespaces[ns]
	width := perLetter * float64(len(ns))
	size := min(l.title, (r.w-2*padding)/width)
	return box{r.x + padding, r.y + padding, size * width, size}
}

// layOut places everything: a box for each namespace, in rows; networks that are only sources on the left, other
// networks on the right.
func layOut(g graph) *layout {
	l := &layout{graph: g, namespaces: make(map[string]box), lines: make(map[int][]string)}
	l.nodes = make([]box, len(g.nodes))
	var in map[string][]int
	l.names, in = g.byNamespace()
	l.title = 14 + 2*math.Sqrt(float64(len(g.nodes)))
	inner := make(map[string][][]int)
	area, widest := 0.0, 0.0
	for _, ns := range l.names {
		columns := g.columns(in[ns])
		inner[ns] = columns
		rows := 0
		for _, c := range columns {
			rows = max(rows, len(c))
		}
		w := 2*padding + float64(len(columns))*(cardWidth+columnGap) - columnGap
		h := 2*padding + l.titleHeight() + float64(rows)*(cardHeight+rowGap) - rowGap
		l.namespaces[ns] = box{0, 0, w, h}
		area, widest = area+(w+boxGap)*(h+boxGap), max(widest, w)
	}
	left := l.side(true)
	l.shelve(left, max(widest, math.Sqrt(area*1.7)))
	for _, ns := range l.names {
		b := l.namespaces[ns]
		for c, column := range inner[ns] {
			for r, n := range column {
				x, y := float64(c)*(cardWidth+columnGap), float64(r)*(cardHeight+rowGap)
				l.nodes[n] = box{b.x + padding + x, b.y + padding + l.titleHeight() + y, cardWidth, cardHeight}
			}
		}
	}
	for i, n := range g.nodes {
		if n.workload < 0 && n.namespace != "" {
			l.nodes[i] = l.namespaces[n.namespace]
		}
	}
	l.side(false)
	l.width, l.height = l.width+boxGap, l.height+boxGap
	return l
}

// shelve puts the boxes of namespaces in rows of roughly width, the highest first.
func (l *layout) shelve(left, width float64) {
	order := slices.Clone(l.names)
	slices.SortStableFunc(order, func(a, b string) int { return -cmp.Compare(l.namespaces[a].h, l.namespaces[b].h) })
	x, y, row := left, boxGap, 0.0
	for _, ns := range order {
		b := l.namespaces[ns]
		if x > left && x-left+b.w > width {
			x, y, row = left, y+row+boxGap, 0
		}
		b.x, b.y = x, y
		l.namespaces[ns] = b
		x, row = x+b.w+boxGap, max(row, b.h)
		l.width, l.height = max(l.width, b.x+b.w), max(l.height, b.y+b.h)
	}
}

// side places what is neither a workload nor a namespace on one side: on the left what nothing leads to. It returns
// where the next column begins.
func (l *layout) side(left bool) float64 { //nolint:revive // a side, not a mode
	const width, perLine = 236.0, 32
	target := make(map[int]bool)
	for _, e := range l.edges {
		target[e.to] = true
	}
	x, y := boxGap, boxGap
	if !left {
		x = l.width + 2*boxGap
	}
	found := false
	for i, n := range l.graph.nodes {
		if n.workload >= 0 || n.namespace != "" || target[i] == left {
			continue
		}
		found = true
		l.lines[i] = breakLines(n.label, perLine)
		h := float64(len(l.lines[i]))*lineHeight + 22
		l.nodes[i] = box{x, y, width, h}
		y += h + rowGap
		l.width, l.height = max(l.width, x+width), max(l.height, y)
	}
	if !found {
		return boxGap
	}
	return x + width + 2*boxGap
}

// breakLines breaks a text between words, and cuts what does not fit on a card.
func breakLines(text string, width int) []string {
	const most = 5
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(word) <= width {
			lines[n-1] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	if len(lines) > most {
		lines = append(lines[:most-1], "…")
	}
	return lines
}

// columns orders the workloads of a namespace in columns, so that most edges lead to the right.
func (g graph) columns(nodes []int) [][]int {
	rank := make(map[int]int)
	for _, n := range nodes {
		rank[n] = 0
	}
	for range 4 { // more columns are unreadable, and a cycle would not end
		for _, e := range g.edges {
			from, known := rank[e.from]
			if _, both := rank[e.to]; known && both && e.from != e.to {
				rank[e.to] = min(max(rank[e.to], from+1), 4)
			}
		}
	}
	for _, n := range nodes { // pure sources go beside their targets
		next, target := 5, false
		for _, e := range g.edges {
			if to, inside := rank[e.to]; inside && e.from == n && e.to != n {
				next = min(next, to)
			}
			_, inside := rank[e.from]
			target = target || inside && e.to == n && e.from != n
		}
		if !target && next < 5 {
			rank[n] = max(rank[n], next-1)
		}
	}
	byRank := make([][]int, 5)
	for _, n := range nodes {
		byRank[rank[n]] = append(byRank[rank[n]], n)
	}
	rows := max(maxRows, int(math.Sqrt(float64(len(nodes))*3)))
	var columns [][]int
	for _, column := range byRank {
		for part := range slices.Chunk(column, rows) {
			columns = append(columns, part)
		}
	}
	return columns
}

// point is a point of a picture.
type point struct{ x, y float64 }

// anchors finds where the edges begin and end: one below the other, at the side of a box that is nearest to the other
// end.
func (l *layout) anchors() (from, to []point) {
	type end struct {
		edge  int
		begin bool
		other float64
	}
	ends := make(map[[2]int][]end) // by node, and 1 for the right side
	for i, e := range l.edges {
		a, b := l.nodes[e.from], l.nodes[e.to]
		sideA, sideB := sides(a, b)
		ends[[2]int{e.from, sideA}] = append(ends[[2]int{e.from, sideA}], end{i, true, b.y + b.h/2})
		ends[[2]int{e.to, sideB}] = append(ends[[2]int{e.to, sideB}], end{i, false, a.y + a.h/2})
	}
	from, to = make([]point, len(l.edges)), make([]point, len(l.edges))
	for key, all := range ends {
		slices.SortStableFunc(all, func(a, b end) int { return cmp.Compare(a.other, b.other) })
		b := l.nodes[key[0]]
		top, height := b.y, b.h
		if n := l.graph.nodes[key[0]]; n.workload < 0 && n.namespace != "" { // at its title, where there are no cards
			height = min(height, l.titleHeight()+padding)
		}
		for i, e := range all {
			p := point{b.x + float64(key[1])*b.w, top + height*float64(i+1)/float64(len(all)+1)}
			if e.begin {
				from[e.edge] = p
			} else {
				to[e.edge] = p
			}
		}
	}
	return from, to
}

// sides returns the sides at which an edge meets two boxes: 0 for left, 1 for right.
func sides(a, b box) (from, to int) {
	switch {
	case a.x+a.w <= b.x:
		return 1, 0
	case b.x+b.w <= a.x:
		return 0, 1
	case b.x > a.x && b.x+b.w < a.x+a.w: // from a namespace into itself
		return 0, 0
	}
	return 1, 1
}
