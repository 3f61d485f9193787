// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Cell is what is open from a workload to another, or from or to a network. The two differ where policies treat the
// pods of a workload, or their addresses, in several ways.
type Cell struct {
	Every Ports // from every pod to every other pod
	Some  Ports // from some pod to some other pod
}

// String returns what is open for an operator.
func (c Cell) String() string {
	switch {
	case c.Every.Equal(c.Some):
		return c.Every.String()
	case c.Every.Empty():
		return c.Some.String() + " (some pods)"
	}
	return c.Every.String() + "; some pods " + c.Some.minus(c.Every).String()
}

// cellID is a cell of a [portTable].
type cellID struct{ every, some portsID }

// add widens a cell by what is open between two places.
func (t *portTable) add(c *cellID, open portsID) {
	c.every, c.some = t.intersect(c.every, open), t.union(c.some, open)
}

func (m *Matrix) cell(c cellID) Cell { return Cell{m.ports.sets[c.every], m.ports.sets[c.some]} }

// Cell returns what is open from one workload to another, by their numbers in Workloads. From a workload to itself it
// is about different pods; if it has one only, about what a second one could do.
func (m *Matrix) Cell(from, to int) Cell { return m.cell(m.row(m.profile[from])[m.profile[to]]) }

// row returns what is open from the workloads of a profile to those of each. It is good until the next call: who asks
// for all pairs goes from row to row.
func (m *Matrix) row(from int) []cellID {
	if m.rowFrom == from && m.rowCells != nil {
		return m.rowCells
	}
	open := make([][]portsID, len(m.profiles[from]))
	for i, member := range m.profiles[from] {
		open[i] = m.openFrom(member.class)
	}
	m.rowFrom, m.rowCells = from, slices.Grow(m.rowCells[:0], len(m.profiles))
	for to, class := range m.only {
		var cell cellID
		if len(open) > 1 || class < 0 {
			cell = m.cellOf(from, to, open)
		} else if ports := open[0][class]; ports != otherFamily {
			cell = cellID{ports, ports}
		}
		m.rowCells = append(m.rowCells, cell)
	}
	return m.rowCells
}

// otherFamily is in place of ports where two classes have no family in common.
const otherFamily portsID = -1

// openFrom returns what is open from a class to each.
func (m *Matrix) openFrom(src int) []portsID {
	var egress []portsID
	if r := m.classes[src].reach[policy.Egress]; r != nil {
		egress = r.grants
	}
	ingress := make([]portsID, len(m.inbound))
	for i, r := range m.inbound {
		if ingress[i] = allPorts; r != nil {
			ingress[i] = r.grants[src]
		}
	}
	f, open := m.classes[src].family, make([]portsID, len(m.classes))
	for c, at := range m.inboundOf {
		switch g := at.family; {
		case f != g && f != 0 && g != 0:
			open[c] = otherFamily
		case egress == nil:
			open[c] = ingress[at.reach]
		default:
			open[c] = m.ports.intersect(egress[c], ingress[at.reach])
		}
	}
	return open
}

// cellOf is a cell of a row, of which is known what is open from each class of the profile.
func (m *Matrix) cellOf(from, to int, open [][]portsID) cellID {
	cell, found := cellID{allPorts, noPorts}, false
	itself, alone := cell, false
	for i, a := range m.profiles[from] {
		for _, b := range m.profiles[to] {
			switch ports := open[i][b.class]; {
			case ports == otherFamily:
			case a.alone && a == b && (from == to || a.host.IsValid()):
				m.ports.add(&itself, ports)
				alone = true
			default:
				m.ports.add(&cell, ports)
				found = true
			}
		}
	}
	switch {
	case found:
		return cell
	case alone:
		return itself
	}
	return cellID{}
}

// Reach is what is open to or from the addresses of a set.
type Reach struct {
	Networks Networks
	Cell
}

// Outside returns what is open from a workload to addresses that are no pod's, or for ingress, from them to it: a
// partition of the addresses of the families that its pods have, without those where nothing is open.
func (m *Matrix) Outside(d policy.Direction, workload int) []Reach {
	spans := make(map[cellID][]Span)
	var order []cellID
	for _, f := range families() {
		for s, c := range m.outsideOf(d, m.members[workload], f) {
			if c.some == noPorts {
				continue
			}
			if spans[c] == nil {
				order = append(order, c)
			}
			spans[c] = append(spans[c], s)
		}
	}
	var all []Reach
	for _, c := range order {
		all = append(all, Reach{union(spans[c]...), m.cell(c)})
	}
	return all
}

// outsideOf yields spans that cover a family, if the members have addresses of it, and what is open there.
func (m *Matrix) outsideOf(d policy.Direction, members []member, f family) func(func(Span, cellID) bool) {
	return func(yield func(Span, cellID) bool) {
		var layers [][]opening
		var begins []netip.Addr
		for _, member := range members {
			c := m.classes[member.class]
			if c.family != f && c.family != 0 {
				continue
			}
			layer := []opening{{wholeFamily(f), allPorts}}
			if r := c.reach[d]; r != nil {
				layer = r.outside[f]
			}
			layers = append(layers, layer)
			for _, o := range layer {
				begins = append(begins, o.First)
			}
		}
		for _, span := range cutAt(f, begins) {
			cell := cellID{allPorts, noPorts}
			for _, layer := range layers {
				m.ports.add(&cell, at(layer, span.First))
			}
			if !yield(span, cell) {
				return
			}
		}
	}
}

// Pods returns how many pods a workload has.
func (m *Matrix) Pods(workload int) int { return m.pods[workload] }

// IsolatedBy returns the policies that isolate a workload in a direction, sorted, and whether they isolate all of its
// pods.
func (m *Matrix) IsolatedBy(d policy.Direction, workload int) (names []types.NamespacedName, whole bool) {
	whole = true
	for _, member := range m.members[workload] {
		iso := m.classes[member.class].isolations[d]
		if iso == nil {
			whole = false
			continue
		}
		for _, p := range iso.policies {
			if !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
		}
	}
	slices.SortFunc(names, func(a, b types.NamespacedName) int { return cmp.Compare(a.Name, b.Name) })
	return names, whole
}

// Side is one side of connections: workloads, by their numbers, or networks outside of the cluster.
type Side struct {
	Workloads []int // sorted
	Networks  Networks
}

// Connection is what is open from everything of one side to everything of the other.
type Connection struct {
	From, To Side
	Cell
}

// Connections returns everything that is open, with what is alike taken together: no pair of workloads, or of a
// workload and an address outside, is in two of them.
func (m *Matrix) Connections() []Connection {
	b := newBundles[cellID]()
	for from := range m.profiles {
		for to, cell := range m.row(from) {
			if cell.some != noPorts {
				b.add(cell, to)
			}
		}
		b.endRow(from)
	}
	alike := make([][]int, len(m.profiles))
	for w, p := range m.profile {
		alike[p] = append(alike[p], w)
	}
	var all []Connection
	for _, g := range b.all {
		from, to := g.expand(alike)
		all = append(all, Connection{Side{Workloads: from}, Side{Workloads: to}, m.cell(g.kind)})
	}
	for _, d := range policy.Directions() {
		all = append(all, m.outsideConnections(d)...)
	}
	slices.SortFunc(all, func(a, b Connection) int {
		return cmp.Or(compareSides(a.From, b.From), compareSides(a.To, b.To))
	})
	return all
}

func compareSides(a, b Side) int {
	return cmp.Or(cmp.Compare(len(a.Networks), len(b.Networks)), slices.Compare(a.Workloads, b.Workloads),
		slices.CompareFunc(a.Networks, b.Networks, compareSpans))
}

// outsideConnections returns what is open to outside networks, or from them.
func (m *Matrix) outsideConnections(d policy.Direction) []Connection {
	type group struct {
		reach     Reach
		workloads []int
	}
	groups := make(map[string]*group)
	var order []*group
	for w := range m.Workloads {
		for _, r := range m.Outside(d, w) {
			key := fmt.Sprint([]Span(r.Networks), r.Every.key(), "/", r.Some.key())
			g := groups[key]
			if g == nil {
				g = &group{reach: r}
				groups[key], order = g, append(order, g)
			}
			g.workloads = append(g.workloads, w)
		}
	}
	var all []Connection
	for _, g := range order {
		c := Connection{Side{Workloads: g.workloads}, Side{Networks: g.reach.Networks}, g.reach.Cell}
		if d == policy.Ingress {
			c.From, c.To = c.To, c.From
		}
		all = append(all, c)
	}
	return all
}
