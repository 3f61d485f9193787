// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity/folding"
	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Matrix is who may talk to whom in a cluster. It keeps the cluster, which must not be changed, and is for one
// goroutine: answers are computed on demand.
//
// It leaves out what no policy can block: a pod to itself, a node to its own pods, and IPv6 neighbour discovery. A pod
// to its own node is filtered, as it is with --pod-to-node=filter.
type Matrix struct {
	Roster
	fold *folding.Folding

	cluster  *policy.Cluster
	rules    *reading.Rules
	classes  []class
	familyOf []sets.Family      // of the classes
	classAt  map[netip.Addr]int // of the addresses in use
	members  [][]member         // of the workloads
	pods     []int              // number of pods of the workloads
	profile  []int              // of the workloads; equal for those that all policies treat alike
	profiles [][]member
	rowOf    []int   // of the profiles; equal for those from which the same is open
	only     []int32 // the class of each profile with a single one; -1 for others

	selectorClasses, blockClasses []sets.Bitset // what each selector matches, or each block covers
	all                           sets.Bitset   // all classes

	// By direction.
	isolated [2]sets.Bitset                    // the classes that NetworkPolicies isolate
	over     [2]map[policy.RuleRef]sets.Bitset // the classes at which a rule is over a limit
	sides    [2]*sets.Partition                // of the classes, by the policies that apply to them
	passages [2][reading.Tiers][]*passage      // in order of evaluation

	// For the last row.
	full     bool
	lastRow  int
	rowCells []cellID
	rowOpen  [][]sets.PortsID // by the members of the profile
	now      [2][reading.Tiers][]*passage
	states   []folding.StateID // the result of towards
	lists    []sets.ListID
	scratch  sets.Bitset
}

// member is the part of a workload in a class.
type member struct {
	class int
	alone bool // there is only one address

	host netip.Addr // if it is alone, and a node's
}

// New prepares the matrix of a cluster.
func New(c *policy.Cluster) *Matrix {
	m := &Matrix{cluster: c, rules: reading.New(c), fold: folding.New(), classAt: make(map[netip.Addr]int)}
	m.Families = make(map[sets.Family]bool)
	m.classify()
	for d := range m.sides {
		m.over[d] = make(map[policy.RuleRef]sets.Bitset)
		m.sides[d] = &sets.Partition{Of: make([]int, len(m.classes)), Count: 1}
	}
	m.findOver()
	m.connect()
	m.numberRows()
	m.states = make([]folding.StateID, len(m.classes))
	m.lists = make([]sets.ListID, len(m.classes))
	m.scratch = sets.AllBits(0, len(m.classes))
	return m
}

// Err says whether something that was asked of the matrix is too large to be computed, or to be listed. If so, nothing
// that it answered counts.
func (m *Matrix) Err() error {
	if m.full || m.fold.Full() {
		return errors.New("the policies treat too many pods differently, or open too many different sets of ports: " +
			"leave out some of the namespaces, pods or policies")
	}
	return nil
}

// findOver notes at which classes rules are over a limit. That, and the names of ports, make their sides differ.
func (m *Matrix) findOver() {
	keys := make(map[string]int)
	for c, of := range m.classes {
		m.familyOf = append(m.familyOf, of.family)
		if of.sample == nil {
			continue
		}
		for d, rules := range of.sample.Over {
			for ref := range rules {
				all := m.over[d][ref]
				all.Add(c)
				m.over[d][ref] = all
			}
			if len(rules)+len(of.ports()) > 0 {
				m.sides[d].Of[c] = 1 + sets.Number(keys, fmt.Sprint(of.ports(), rules), func() {})
				m.sides[d].Count = len(keys) + 1
			}
		}
	}
}

// Audited returns the audited policies of the cluster, sorted; they isolate nothing and allow nothing.
// ClusterNetworkPolicies have no namespace.
func (m *Matrix) Audited() []types.NamespacedName {
	var names []types.NamespacedName
	for _, np := range m.cluster.Policies {
		if m.cluster.Audited(np) {
			names = append(names, nameOf(np))
		}
	}
	for _, p := range m.cluster.ClusterPolicies {
		if m.cluster.AuditedInTier(p) {
			names = append(names, types.NamespacedName{Name: p.Name})
		}
	}
	return sortedNames(names)
}
