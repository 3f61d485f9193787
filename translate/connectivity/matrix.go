// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Matrix is who may talk to whom in a cluster. It keeps the cluster, which must not be changed, and is for one
// goroutine: what is asked of it is worked out then.
//
// It leaves out what no policy can block: a pod to itself, a node to its own pods, and IPv6 neighbour discovery. A pod
// to its own node is filtered, as it is with --pod-to-node=filter.
type Matrix struct {
	Roster
	*folding

	cluster  *policy.Cluster
	rules    *rules
	classes  []class
	familyOf []family           // of the classes
	classAt  map[netip.Addr]int // of the addresses in use
	members  [][]member         // of the workloads
	pods     []int              // how many the workloads have
	profile  []int              // of the workloads: equal for those that all policies treat alike
	profiles [][]member
	only     []int32 // the class of each profile that has one only, -1 of others

	selectorClasses, blockClasses []bitset // what each selector matches, or each block has
	all                           bitset   // the classes

	// By direction.
	isolated [2]bitset                    // the classes that NetworkPolicies isolate
	over     [2]map[policy.RuleRef]bitset // the classes at which a rule is over a limit
	sides    [2]*partition                // of the classes, by the policies that have a say
	passages [2][tiers][]*passage         // in the order in which they are asked
	tiered   bool                         // there are ClusterNetworkPolicies
	outsides map[outsideKey][]opening     // what was asked for

	// Of the row that was asked for last.
	rowFrom    int // its profile
	rowCells   []cellID
	rowOpen    [][]portsID // by the members of the profile
	now        [2][tiers][]*passage
	nearby     *[2][tiers][]*passage // those from classes of one word
	nearbyWord int
	toward     [2][]stateID // what towards returned
	before     []stateID    // of ingress, before any rule was asked
	scratch    bitset
}

// member is the addresses of a workload that are in a class.
type member struct {
	class int
	alone bool // there is one only

	host netip.Addr // where it is alone, and a node's
}

// New works out who may talk to whom.
func New(c *policy.Cluster) *Matrix {
	m := &Matrix{cluster: c, rules: readRules(c), folding: newFolding(), classAt: make(map[netip.Addr]int),
		outsides: make(map[outsideKey][]opening)}
	m.families = make(map[family]bool)
	m.classify()
	for d := range m.sides {
		m.over[d], m.sides[d] = make(map[policy.RuleRef]bitset), &partition{of: make([]int, len(m.classes)), count: 1}
	}
	m.findOver()
	m.connect()
	for d := range m.toward {
		m.toward[d] = make([]stateID, len(m.classes))
	}
	m.before = make([]stateID, len(m.classes))
	for c := range m.isolated[policy.Ingress].each {
		m.before[c] = isolated
	}
	m.scratch = allBits(0, len(m.classes))
	return m
}

// findOver notes at which classes rules are over a limit; their sides differ by that, and by the names of ports.
func (m *Matrix) findOver() {
	keys := make(map[string]int)
	for c, of := range m.classes {
		if m.familyOf = append(m.familyOf, of.family); of.sample == nil {
			continue
		}
		for d, rules := range of.sample.over {
			for ref := range rules {
				all := m.over[d][ref]
				all.add(c)
				m.over[d][ref] = all
			}
			if len(rules)+len(of.ports()) > 0 {
				m.sides[d].of[c] = 1 + number(keys, fmt.Sprint(of.ports(), rules), func() {})
				m.sides[d].count = len(keys) + 1
			}
		}
	}
}

// Audited returns the policies of the cluster that are only audited, sorted: they isolate nothing and allow nothing.
// ClusterNetworkPolicies have no namespace.
func (m *Matrix) Audited() []types.NamespacedName {
	var names []types.NamespacedName
	for _, np := range m.cluster.Policies {
		if m.cluster.Audited(np) {
			names = append(names, types.NamespacedName{Namespace: np.Namespace, Name: np.Name})
		}
	}
	for _, p := range m.cluster.ClusterPolicies {
		if m.cluster.AuditedInTier(p) {
			names = append(names, types.NamespacedName{Name: p.Name})
		}
	}
	return sortedNames(names)
}

// between returns what is open from one class to another.
func (m *Matrix) between(src, dst int) portsID {
	active, open := m.active(src), allPorts
	for _, d := range policy.Directions() {
		if states := m.towards(d, src, &active[d]); states != nil {
			open = m.intersect(open, m.opens[states[dst]])
		}
	}
	return open
}

// Open returns what is open from one address to another of the same family, whoever has them.
func (m *Matrix) Open(src, dst netip.Addr) Ports {
	from, known := m.classAt[src]
	to, used := m.classAt[dst]
	open := allPorts
	switch {
	case src == dst:
	case known && used:
		open = m.between(from, to)
	case known:
		open = m.outside(policy.Egress, from, dst)
	case used:
		open = m.outside(policy.Ingress, to, src)
	}
	return m.sets[open]
}

// outside returns what is open between a class and an address that is no pod's.
func (m *Matrix) outside(d policy.Direction, c int, peer netip.Addr) portsID {
	return at(m.openOutside(d, c, familyOf(peer)), peer)
}
