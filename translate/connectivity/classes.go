// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/roster"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// class is a set of addresses that all policies treat alike.
type class struct {
	family sets.Family       // 0 for pods without an address yet, which no block covers
	sample *reading.Identity // nil for nodes
}

// ports returns the pods' named ports that rules name.
func (c class) ports() []policy.NamedPort {
	if c.sample == nil {
		return nil
	}
	return c.sample.Ports
}

// atom is the key of a class.
type atom struct {
	kind   int // of identities; -1 for nodes
	family sets.Family
	cover  int // number of the set of blocks that cover the addresses
}

// classify finds the classes, and the workloads with their members.
func (m *Matrix) classify() {
	ids, of := reading.Identities(m.cluster, m.rules)
	matched := make([]sets.Bitset, len(m.rules.Selectors))
	index := reading.IndexLabels(ids)
	kinds := tellApart(ids)
	for n, s := range m.rules.Selectors {
		matched[n] = s.Match(m.cluster, index)
		kinds.Split(matched[n])
	}
	kinds.Renumber()

	places := reading.Places(m.cluster)
	coverOf, covers := m.rules.Covers(places)
	atomOf := func(pod int, f sets.Family, cover int) atom {
		if of[pod] < 0 {
			return atom{-1, f, cover}
		}
		return atom{kinds.Of[of[pod]], f, cover}
	}
	found := newFinds(m.cluster)
	for i, at := range places {
		found.add(at.Pod, atomOf(at.Pod, sets.FamilyOf(at.Addr), coverOf[i]), at.Addr)
	}
	addressed := maps.Clone(found.at)
	for i := range m.cluster.Pods {
		// a pod without an address counts if no pod of its workload has one, as in manifests
		p := &m.cluster.Pods[i]
		if len(p.IPs) > 0 {
			continue
		} else if _, known := addressed[WorkloadOf(p)]; !known {
			found.add(i, atomOf(i, 0, 0), netip.Addr{})
		}
	}
	number := m.enumerate(found, ids, kinds)
	for i, at := range places {
		m.classAt[at.Addr] = number[atomOf(at.Pod, sets.FamilyOf(at.Addr), coverOf[i])]
	}
	m.Workloads = slices.SortedFunc(maps.Keys(found.at), roster.CompareWorkloads)
	m.profiled(found, number)
	for _, w := range m.Workloads {
		m.pods = append(m.pods, len(found.pods[w]))
	}
	m.matchClasses(matched, kinds, number)
	m.coverClasses(covers, number)
}

// tellApart partitions identities by everything except what selectors match.
func tellApart(ids []*reading.Identity) *sets.Partition {
	p := &sets.Partition{Of: make([]int, len(ids))}
	keys := make(map[string]int)
	for i, id := range ids {
		key := ""
		if len(id.Ports)+len(id.Over[0])+len(id.Over[1]) > 0 {
			key = fmt.Sprint(id.Ports, id.Over) // maps are printed in key order
		}
		p.Of[i] = sets.Number(keys, key, func() {})
	}
	p.Count = len(keys)
	return p
}

// finds has the addresses of workloads, and their pods.
type finds struct {
	cluster *policy.Cluster
	at      map[Workload]map[atom][]netip.Addr // the zero address stands for a pod without one
	pods    map[Workload]map[int]bool
}

func newFinds(c *policy.Cluster) finds {
	return finds{c, make(map[Workload]map[atom][]netip.Addr), make(map[Workload]map[int]bool)}
}

func (f finds) add(pod int, at atom, a netip.Addr) {
	w := WorkloadOf(&f.cluster.Pods[pod])
	if f.at[w] == nil {
		f.at[w], f.pods[w] = make(map[atom][]netip.Addr), make(map[int]bool)
	}
	if have := f.at[w][at]; len(have) == 0 || !a.IsValid() || have[len(have)-1] != a {
		f.at[w][at] = append(have, a)
	}
	f.pods[w][pod] = true
}

// enumerate numbers the classes so that those of a kind, and roughly those of a namespace, are adjacent.
func (m *Matrix) enumerate(found finds, ids []*reading.Identity, kinds *sets.Partition) map[atom]int {
	number := make(map[atom]int)
	for _, atoms := range found.at {
		for a := range atoms {
			number[a] = 0
		}
	}
	samples := make([]*reading.Identity, kinds.Count)
	for i, id := range slices.Backward(ids) {
		samples[kinds.Of[i]] = id
	}
	for i, a := range slices.SortedFunc(maps.Keys(number), func(a, b atom) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.family, b.family), cmp.Compare(a.cover, b.cover))
	}) {
		number[a] = i
		c := class{family: a.family}
		if a.kind >= 0 {
			c.sample = samples[a.kind]
		}
		m.classes = append(m.classes, c)
		for _, f := range sets.Families() {
			if a.family == 0 || a.family == f {
				m.Families[f] = true
			}
		}
	}
	return number
}

// profiled sets the members of the workloads, and finds equal ones.
func (m *Matrix) profiled(found finds, class map[atom]int) {
	ids := make(map[string]int)
	for i, w := range m.Workloads {
		var members []member
		families := make(map[sets.Family]bool)
		for a, addresses := range found.at[w] {
			families[a.family] = true
			next := member{class: class[a], alone: len(addresses) == 1}
			if next.alone && a.kind < 0 {
				next.host = addresses[0]
			}
			members = append(members, next)
		}
		slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.class, b.class) })
		key := fmt.Sprint(members)
		if len(families) < len(members) {
			key = fmt.Sprint(i) // there it matters whether a pod is alone in its class
		}
		m.members = append(m.members, members)
		m.Host = append(m.Host, m.classes[members[0].class].sample == nil)
		m.profile = append(m.profile, sets.Number(ids, key, func() {
			only := int32(-1)
			if len(members) == 1 {
				only = int32(members[0].class)
			}
			m.profiles, m.only = append(m.profiles, members), append(m.only, only)
		}))
	}
}

// matchClasses notes the classes that selectors match, and those that policies select.
func (m *Matrix) matchClasses(matched []sets.Bitset, kinds *sets.Partition, class map[atom]int) {
	of := make([][]int, kinds.Count)
	for a, c := range class {
		if a.kind >= 0 {
			of[a.kind] = append(of[a.kind], c)
		}
	}
	m.selectorClasses = make([]sets.Bitset, len(matched))
	for s, ids := range matched {
		for i := range ids.Each {
			for _, c := range of[kinds.Of[i]] {
				m.selectorClasses[s].Add(c)
			}
		}
	}
	for _, all := range m.rules.Tiers {
		for _, p := range all {
			for _, s := range p.Subjects {
				p.Pods.Unite(m.selectorClasses[s])
			}
		}
	}
}

// coverClasses notes the classes that blocks cover.
func (m *Matrix) coverClasses(covers []sets.Bitset, class map[atom]int) {
	m.blockClasses = make([]sets.Bitset, len(m.rules.Blocks))
	for a, c := range class {
		if a.family == 0 {
			continue
		}
		for b := range covers[a.cover].Each {
			m.blockClasses[b].Add(c)
		}
	}
}
