// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Matrix is who may talk to whom in a cluster. It keeps the cluster, which must not be changed, and is for one
// goroutine: what is asked of it for the first time is worked out then.
//
// It leaves out what no policy can block: a pod to itself, a node to its own pods, and IPv6 neighbour discovery. A pod
// to its own node is filtered, as it is with --pod-to-node=filter.
type Matrix struct {
	Roster

	cluster  *policy.Cluster
	rules    *rules
	ports    *portTable
	classes  []class
	classAt  map[netip.Addr]int // of the addresses in use
	members  [][]member         // of the workloads
	pods     []int              // how many the workloads have
	profile  []int              // of the workloads: equal for those that all policies treat alike
	profiles [][]member
	only     []int32 // the class of each profile that has one only, -1 of others

	inbound   []*reach // the distinct ones of ingress
	inboundOf []inbound
	rowFrom   int // the profile of rowCells
	rowCells  []cellID

	// The classes that a selector matches, or a block has, by their numbers.
	selectorClasses, blockClasses [][]int
}

// class is addresses that all policies treat alike.
type class struct {
	family     family // 0: of pods that have no address yet, which no block has
	isolations [2]*isolation
	tiers      [2][2]*tierList // see identity
	reach      [2]*reach       // nil where everything is open
	ports      []policy.NamedPort
	sample     *identity // nil for nodes
}

// inbound is what there is to know of a class, to look up what may reach it; all of them are looked up for each class.
type inbound struct {
	reach  int32 // its number
	family family
}

// member is the addresses of a workload that are in a class.
type member struct {
	class int
	alone bool // there is one only

	host netip.Addr // where it is alone, and a node's
}

// New works out who may talk to whom.
func New(c *policy.Cluster) *Matrix {
	m := &Matrix{cluster: c, rules: readRules(c), ports: newPortTable(), classAt: make(map[netip.Addr]int)}
	m.families = make(map[family]bool)
	identities, isolations := identify(c, m.rules)
	m.selectorClasses = make([][]int, len(m.rules.selectors))
	m.blockClasses = make([][]int, len(m.rules.blocks))
	m.classify(identities)
	for _, iso := range isolations {
		m.grant(iso)
	}
	m.reaches()
	return m
}

// Audited returns the policies of the cluster that are only audited, sorted: they isolate nothing and allow nothing.
func (m *Matrix) Audited() []types.NamespacedName {
	var names []types.NamespacedName
	for _, np := range m.cluster.Policies {
		if m.cluster.Audited(np) {
			names = append(names, types.NamespacedName{Namespace: np.Namespace, Name: np.Name})
		}
	}
	return sortedNames(names)
}

// classify finds the classes, and the workloads with their members.
func (m *Matrix) classify(identities map[int]*identity) {
	all := places(m.cluster)
	covers := m.rules.covers(all)
	ids := make(map[string]int)
	found := make(map[Workload]map[int][]netip.Addr) // by class; the zero address is of a pod that has none
	pods := make(map[Workload]map[int]bool)
	add := func(pod, class int, a netip.Addr) {
		w := WorkloadOf(&m.cluster.Pods[pod])
		if found[w] == nil {
			found[w], pods[w] = make(map[int][]netip.Addr), make(map[int]bool)
		}
		if have := found[w][class]; len(have) == 0 || !a.IsValid() || have[len(have)-1] != a {
			found[w][class] = append(have, a)
		}
		pods[w][pod] = true
	}
	for i, at := range all {
		c := m.class(ids, identities[at.pod], familyOf(at.addr), covers[i])
		m.classAt[at.addr] = c
		add(at.pod, c, at.addr)
	}
	addressed := maps.Clone(found)
	for i := range m.cluster.Pods {
		// a pod without an address counts where no pod of its workload has one, as in manifests
		p := &m.cluster.Pods[i]
		if w := WorkloadOf(p); len(p.IPs) > 0 {
			continue
		} else if _, known := addressed[w]; !known && (identities[i] != nil || p.HostNetwork) {
			add(i, m.class(ids, identities[i], 0, nil), netip.Addr{})
		}
	}
	m.Workloads = slices.SortedFunc(maps.Keys(found), compareWorkloads)
	m.profiled(found)
	for _, w := range m.Workloads {
		m.pods = append(m.pods, len(pods[w]))
	}
}

// profiled sets the members of the workloads, and finds workloads that are alike.
func (m *Matrix) profiled(found map[Workload]map[int][]netip.Addr) {
	ids := make(map[string]int)
	for i, w := range m.Workloads {
		var members []member
		families := make(map[family]bool)
		for _, c := range slices.Sorted(maps.Keys(found[w])) {
			families[m.classes[c].family] = true
			next := member{class: c, alone: len(found[w][c]) == 1}
			if next.alone && m.classes[c].sample == nil {
				next.host = found[w][c][0]
			}
			members = append(members, next)
		}
		key := fmt.Sprint(members)
		if len(families) < len(members) {
			key = fmt.Sprint(i) // whether a pod is alone in its class matters there
		}
		m.members = append(m.members, members)
		m.host = append(m.host, m.classes[members[0].class].sample == nil)
		m.profile = append(m.profile, number(ids, key, func() {
			only := int32(-1)
			if len(members) == 1 {
				only = int32(members[0].class)
			}
			m.profiles, m.only = append(m.profiles, members), append(m.only, only)
		}))
	}
}

// class returns the number of the class of an identity's addresses that some blocks have.
func (m *Matrix) class(ids map[string]int, id *identity, f family, blocks []int) int {
	c := class{family: f, sample: id}
	key := fmt.Sprint(f, blocks)
	var selectors []int
	if id != nil {
		c.isolations, c.tiers, c.ports, selectors = id.isolations, id.tiers, id.ports, id.selectors
		key = fmt.Sprintf("%s %p %p %v %v %v", key, c.isolations[0], c.isolations[1], c.tiers, c.ports, selectors)
	}
	return number(ids, key, func() {
		for _, g := range families() {
			if f == 0 || f == g {
				m.families[g] = true
			}
		}
		n := len(m.classes)
		m.classes = append(m.classes, c)
		for _, s := range selectors {
			m.selectorClasses[s] = append(m.selectorClasses[s], n)
		}
		for _, b := range blocks {
			m.blockClasses[b] = append(m.blockClasses[b], n)
		}
	})
}

// covers returns the numbers of the blocks that have each of the places, which are sorted by address.
func (r *rules) covers(all []place) [][]int {
	type edge struct {
		at    netip.Addr
		block int
		begin bool
	}
	var edges []edge
	for b, networks := range r.blocks {
		for _, s := range networks {
			edges = append(edges, edge{s.First, b, true})
			if after := s.Last.Next(); after.IsValid() {
				edges = append(edges, edge{after, b, false})
			}
		}
	}
	slices.SortFunc(edges, func(x, y edge) int { return x.at.Compare(y.at) })
	covers := make([][]int, len(all))
	active := make(map[int]bool)
	var sorted []int
	changed, family := false, ipv4 // of the place
	for i, p := range all {
		for len(edges) > 0 && !p.addr.Less(edges[0].at) {
			if changed = true; edges[0].begin {
				active[edges[0].block] = true
			} else {
				delete(active, edges[0].block)
			}
			edges = edges[1:]
		}
		if f := familyOf(p.addr); f != family { // what goes on to the end of the other family has no edge there
			maps.DeleteFunc(active, func(b int, _ bool) bool { return familyOf(r.blocks[b][0].First) != f })
			family, changed = f, true
		}
		if changed {
			sorted, changed = slices.Sorted(maps.Keys(active)), false
		}
		covers[i] = sorted
	}
	return covers
}

// grant works out what an isolation opens to each class, and to each address that is no pod's.
func (m *Matrix) grant(iso *isolation) {
	iso.grants = make([]portsID, len(m.classes))
	toAll := noPorts
	var blocks []opening
	for r := range iso.each {
		byNumber, byName := m.opens(iso, r)
		for c, open := range m.granted(r, byNumber, byName) {
			iso.grants[c] = m.ports.union(iso.grants[c], open)
		}
		if r.anyPeer {
			toAll = m.ports.union(toAll, byNumber)
		}
		for _, b := range r.blocks {
			for _, s := range m.rules.blocks[b] {
				blocks = append(blocks, opening{s, byNumber})
			}
		}
	}
	iso.outside = make(map[family][]opening)
	for _, f := range families() {
		of := slices.DeleteFunc(slices.Clone(blocks), func(o opening) bool { return familyOf(o.First) != f })
		iso.outside[f] = m.ports.overlay(f, toAll, of)
	}
}

// opens returns what a rule opens to an address that is no pod's, and to a class by selectors. The name of a port is
// that of the pod at the destination, so of ingress, it is known.
func (m *Matrix) opens(iso *isolation, r *rule) (byNumber portsID, byName func(class int) portsID) {
	if iso.direction == policy.Ingress || len(r.named) == 0 {
		open := m.ports.id(r.open(iso.ports))
		return open, func(int) portsID { return open }
	}
	return m.ports.id(r.ports), func(c int) portsID { return m.ports.id(r.open(m.classes[c].ports)) }
}

// granted yields classes that a rule includes, and what it opens to them; a class may come several times.
func (m *Matrix) granted(r *rule, byNumber portsID, byName func(int) portsID) func(func(int, portsID) bool) {
	return func(yield func(int, portsID) bool) {
		if r.anyPeer {
			for c := range m.classes {
				if !yield(c, byName(c)) {
					return
				}
			}
		}
		for _, s := range r.selectors {
			for _, c := range m.selectorClasses[s] {
				if !yield(c, byName(c)) {
					return
				}
			}
		}
		for _, b := range r.blocks {
			for _, c := range m.blockClasses[b] {
				if !yield(c, byNumber) {
					return
				}
			}
		}
	}
}

// direction returns what policies of one direction open between two classes.
func (m *Matrix) direction(d policy.Direction, src, dst int) portsID {
	pod, peer := src, dst
	if d == policy.Ingress {
		pod, peer = dst, src
	}
	if r := m.classes[pod].reach[d]; r != nil {
		return r.grants[peer]
	}
	return allPorts
}

// between returns what is open from one class to another.
func (m *Matrix) between(src, dst int) portsID {
	return m.ports.intersect(m.direction(policy.Egress, src, dst), m.direction(policy.Ingress, src, dst))
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
	return m.ports.sets[open]
}

// outside returns what is open between a class and an address that is no pod's.
func (m *Matrix) outside(d policy.Direction, c int, peer netip.Addr) portsID {
	if r := m.classes[c].reach[d]; r != nil {
		return at(r.outside[familyOf(peer)], peer)
	}
	return allPorts
}
