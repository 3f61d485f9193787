// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/roster"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Cell is what is open from one workload to another, or from or to a network. Every and Some differ if policies treat
// the pods of a workload, or their addresses, differently.
type Cell struct {
	Every Ports // from every pod to every other pod
	Some  Ports // from some pod to some other pod
}

// String describes what is open for an operator.
func (c Cell) String() string {
	switch {
	case c.Every.Equal(c.Some):
		return c.Every.String()
	case c.Every.Empty():
		return c.Some.String() + " (some pods)"
	}
	return c.Every.String() + "; some pods " + c.Some.Minus(c.Every).String()
}

// cellID is a cell by the numbers of its sets.
type cellID struct{ every, some sets.PortsID }

// add adds to a cell what is open between two places.
func (m *Matrix) add(c *cellID, open sets.PortsID) {
	c.every, c.some = m.fold.Intersect(c.every, open), m.fold.Union(c.some, open)
}

func (m *Matrix) cell(c cellID) Cell { return Cell{m.fold.Sets[c.every], m.fold.Sets[c.some]} }

// row returns what is open from the workloads of a profile to those of each other. It is valid until the next call, so
// all pairs are best read row by row.
func (m *Matrix) row(from int) []cellID {
	if m.lastRow == m.rowOf[from] {
		return m.rowCells
	}
	for i, member := range m.profiles[from] {
		if i == len(m.rowOpen) {
			m.rowOpen = append(m.rowOpen, nil)
		}
		m.rowOpen[i] = m.openFrom(member.class, m.rowOpen[i])
	}
	open := m.rowOpen[:len(m.profiles[from])]
	m.lastRow, m.rowCells = m.rowOf[from], slices.Grow(m.rowCells[:0], len(m.profiles))
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

// numberRows numbers the rows of the profiles, equal ones alike: where the same policies decide the egress, and the
// rules of ingress treat them as one peer.
func (m *Matrix) numberRows() {
	sources := &sets.Partition{Of: slices.Clone(m.sides[policy.Egress].Of), Count: m.sides[policy.Egress].Count}
	for _, all := range m.passages[policy.Ingress] {
		for _, p := range all {
			sources.Split(p.from)
		}
	}
	ids := make(map[string]int)
	for i, members := range m.profiles {
		var key []byte
		families := make(map[sets.Family]bool)
		for _, of := range members {
			f := m.classes[of.class].family
			if families[f] || of.host.IsValid() { // where a pod is not its own peer, the row is its own
				key = fmt.Appendf(key, "%d ", i)
			}
			families[f] = true
			key = fmt.Appendf(key, "%d %d,", f, sources.Of[of.class])
		}
		m.rowOf = append(m.rowOf, sets.Number(ids, string(key), func() {}))
	}
	m.lastRow = -1
}

// otherFamily replaces the ports if two classes have no family in common.
const otherFamily sets.PortsID = -1

// cellOf returns a cell of a row, given what is open from each class of the profile.
func (m *Matrix) cellOf(from, to int, open [][]sets.PortsID) cellID {
	cell, found := cellID{sets.AllPorts, sets.NoPorts}, false
	itself, alone := cell, false
	for i, a := range m.profiles[from] {
		for _, b := range m.profiles[to] {
			switch ports := open[i][b.class]; {
			case ports == otherFamily:
			case a.alone && a == b && (from == to || a.host.IsValid()):
				m.add(&itself, ports)
				alone = true
			default:
				m.add(&cell, ports)
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

// Outside returns what is open from a workload to addresses that no pod has or, for ingress, from them to it: a
// partition of the addresses of its pods' families, without those where nothing is open.
func (m *Matrix) Outside(d policy.Direction, workload int) []Reach {
	at := make(map[cellID]int)
	var all []Reach
	for _, f := range sets.Families() {
		for _, r := range m.outsideOf(d, m.members[workload], f) {
			if r.some != sets.NoPorts {
				n := sets.Number(at, r.cellID, func() { all = append(all, Reach{Cell: m.cell(r.cellID)}) })
				all[n].Networks = append(all[n].Networks, r.Span)
			}
		}
	}
	for i := range all {
		all[i].Networks = sets.Union(all[i].Networks...)
	}
	return all
}

// reach is what is open to or from the addresses of a span.
type reach struct {
	Span
	cellID
}

// cellAt returns what is open in a span; reaches are those of its family, without gaps, or none.
func cellAt(all []reach, s Span) cellID {
	n, _ := slices.BinarySearchFunc(all, s.Last, func(r reach, last netip.Addr) int { return r.Last.Compare(last) })
	if n == len(all) {
		return cellID{}
	}
	return all[n].cellID
}

// outsideOf returns what is open in spans that cover a family, if the members have addresses of it.
func (m *Matrix) outsideOf(d policy.Direction, members []member, f sets.Family) []reach {
	var layers [][]opening
	var begins []netip.Addr
	seen := make(map[int]bool)
	for _, member := range members {
		c := m.classes[member.class]
		side := m.sides[d].Of[member.class]
		if c.family != f && c.family != 0 || seen[side] {
			continue
		}
		seen[side] = true
		layer := m.openOutside(d, member.class, f)
		layers = append(layers, layer)
		for _, o := range layer {
			begins = append(begins, o.First)
		}
	}
	var all []reach
	for _, span := range sets.CutAt(f, begins) {
		cell := cellID{sets.AllPorts, sets.NoPorts}
		for _, layer := range layers {
			m.add(&cell, at(layer, span.First))
		}
		all = append(all, reach{span, cell})
	}
	return all
}

// Pods returns how many pods a workload has.
func (m *Matrix) Pods(workload int) int { return m.pods[workload] }

// IsolatedBy returns the policies that isolate a workload in a direction, sorted, and whether they isolate all of its
// pods.
func (m *Matrix) IsolatedBy(d policy.Direction, workload int) (names []types.NamespacedName, whole bool) {
	isolating := make(map[*reading.PolicyRules]bool)
	whole = true
	for _, member := range m.members[workload] {
		whole = whole && m.isolated[d].Has(member.class)
		for p := range m.policiesFor(d, reading.Plain, member.class) {
			if !isolating[p] {
				isolating[p], names = true, append(names, p.Name)
			}
		}
	}
	return sortedNames(names), whole
}

// Connection is what is open from everything of one side to everything of the other.
type Connection struct {
	From, To Side
	Cell
}

// Connections returns everything that is open, with equal connections merged: no pair of workloads, or of a workload
// and an outside address, is in two of them. [Matrix.Err] says whether that was too much.
func (m *Matrix) Connections() []Connection {
	b := sets.NewBundles[cellID]()
	for _, from := range sets.Groups(m.rowOf) {
		for to, cell := range m.row(from[0]) {
			if cell.some != sets.NoPorts {
				b.Add(cell, to)
			}
		}
		if b.EndRow(from...); b.Full() || m.fold.Full() {
			break
		}
	}
	var all []Connection
	for _, g := range b.Expand(sets.Groups(m.profile)) {
		all = append(all, Connection{Side{Workloads: g.From}, Side{Workloads: g.To}, m.cell(g.Kind)})
	}
	if m.full = b.Full(); m.Err() != nil {
		return nil
	}
	for _, d := range policy.Directions() {
		all = append(all, m.outsideConnections(d)...)
	}
	slices.SortFunc(all, func(a, b Connection) int {
		return cmp.Or(roster.CompareSides(a.From, b.From), roster.CompareSides(a.To, b.To))
	})
	return all
}

// outsideConnections returns what is open to outside networks, or from them.
func (m *Matrix) outsideConnections(d policy.Direction) []Connection {
	type group struct {
		reach     Reach
		workloads []int
	}
	groups := make(map[string]*group)
	var order []*group
	known := make(map[string][]*group) // by the deciding policies
	for w := range m.Workloads {
		key := m.sidesOf(d, w)
		if _, done := known[key]; !done {
			known[key] = nil
			for _, r := range m.Outside(d, w) {
				of := r.Networks.Key() + "/" + r.Every.Key() + "/" + r.Some.Key()
				if groups[of] == nil {
					groups[of] = &group{reach: r}
					order = append(order, groups[of])
				}
				known[key] = append(known[key], groups[of])
			}
		}
		for _, g := range known[key] {
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

// sidesOf returns a key that is equal for workloads whose connections to outside addresses are decided by the same
// policies.
func (m *Matrix) sidesOf(d policy.Direction, workload int) string {
	var key []byte
	for _, of := range m.members[workload] {
		key = binary.AppendUvarint(append(key, byte(m.classes[of.class].family)), uint64(m.sides[d].Of[of.class]))
	}
	return string(key)
}
