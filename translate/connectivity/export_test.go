// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"net/netip"

	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// ClassOf returns the number of the class of an address, if it is in use.
func (m *Matrix) ClassOf(a netip.Addr) (class int, known bool) {
	class, known = m.classAt[a]
	return class, known
}

// Confine leaves a matrix room for so many more entries of its table.
func (m *Matrix) Confine(entries int) { m.fold.Room = entries }

// Cell returns what is open from one workload to another, by their numbers in Workloads. From a workload to itself it
// is about different pods; if it has one only, about what a second one could do.
func (m *Matrix) Cell(from, to int) Cell { return m.cell(m.row(m.profile[from])[m.profile[to]]) }

// between returns what is open from one class to another.
func (m *Matrix) between(src, dst int) sets.PortsID {
	active, open := m.active(src), sets.AllPorts
	for _, d := range policy.Directions() {
		if states := m.towards(d, src, &active[d]); states != nil {
			open = m.fold.Intersect(open, m.fold.Opens[states[dst]])
		}
	}
	return open
}

// Open returns what is open from one address to another of the same family, whoever owns them.
func (m *Matrix) Open(src, dst netip.Addr) Ports {
	from, known := m.classAt[src]
	to, used := m.classAt[dst]
	open := sets.AllPorts
	switch {
	case src == dst:
	case known && used:
		open = m.between(from, to)
	case known:
		open = m.outside(policy.Egress, from, dst)
	case used:
		open = m.outside(policy.Ingress, to, src)
	}
	return m.fold.Sets[open]
}

// outside returns what is open between a class and an address that is no pod's.
func (m *Matrix) outside(d policy.Direction, c int, peer netip.Addr) sets.PortsID {
	return at(m.openOutside(d, c, sets.FamilyOf(peer)), peer)
}
