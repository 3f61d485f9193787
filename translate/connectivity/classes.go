// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/translate/policy"
)

// class is addresses that all policies treat alike.
type class struct {
	family family    // 0: of pods that have no address yet, which no block has
	sample *identity // nil for nodes
}

// ports returns the named ports of the pods, as far as rules name them.
func (c class) ports() []policy.NamedPort {
	if c.sample == nil {
		return nil
	}
	return c.sample.ports
}

// atom is what makes a class.
type atom struct {
	kind   int // of identities, -1 of nodes
	family family
	cover  int // a number of the blocks that have the addresses
}

// classify finds the classes, and the workloads with their members.
func (m *Matrix) classify() {
	ids, of := identities(m.cluster, m.rules)
	matched := make([]bitset, len(m.rules.selectors))
	index := indexLabels(ids)
	kinds := tellApart(ids)
	for n, s := range m.rules.selectors {
		matched[n] = s.match(m.cluster, index)
		kinds.split(matched[n])
	}
	kinds.renumber()

	places := places(m.cluster)
	coverOf, covers := m.rules.covers(places)
	atomOf := func(pod int, f family, cover int) atom {
		if of[pod] < 0 {
			return atom{-1, f, cover}
		}
		return atom{kinds.of[of[pod]], f, cover}
	}
	found := newFinds(m.cluster)
	for i, at := range places {
		found.add(at.pod, atomOf(at.pod, familyOf(at.addr), coverOf[i]), at.addr)
	}
	addressed := maps.Clone(found.at)
	for i := range m.cluster.Pods {
		// a pod without an address counts where no pod of its workload has one, as in manifests
		p := &m.cluster.Pods[i]
		if len(p.IPs) > 0 {
			continue
		} else if _, known := addressed[WorkloadOf(p)]; !known {
			found.add(i, atomOf(i, 0, 0), netip.Addr{})
		}
	}
	number := m.enumerate(found, ids, kinds)
	for i, at := range places {
		m.classAt[at.addr] = number[atomOf(at.pod, familyOf(at.addr), coverOf[i])]
	}
	m.Workloads = slices.SortedFunc(maps.Keys(found.at), compareWorkloads)
	m.profiled(found, number)
	for _, w := range m.Workloads {
		m.pods = append(m.pods, len(found.pods[w]))
	}
	m.matchClasses(matched, kinds, number)
	m.coverClasses(covers, number)
}

// tellApart parts identities by all but what selectors match.
func tellApart(ids []*identity) *partition {
	p := &partition{of: make([]int, len(ids))}
	keys := make(map[string]int)
	for i, id := range ids {
		key := ""
		if len(id.ports)+len(id.over[0])+len(id.over[1]) > 0 {
			key = fmt.Sprint(id.ports, id.over) // a map is printed in order
		}
		p.of[i] = number(keys, key, func() {})
	}
	p.count = len(keys)
	return p
}

// finds is the addresses of workloads, and their pods.
type finds struct {
	cluster *policy.Cluster
	at      map[Workload]map[atom][]netip.Addr // the zero address is of a pod that has none
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

// enumerate numbers the classes: those of a kind follow each other, and so about those of a namespace.
func (m *Matrix) enumerate(found finds, ids []*identity, kinds *partition) map[atom]int {
	number := make(map[atom]int)
	for _, atoms := range found.at {
		for a := range atoms {
			number[a] = 0
		}
	}
	samples := make([]*identity, kinds.count)
	for i, id := range slices.Backward(ids) {
		samples[kinds.of[i]] = id
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
		for _, f := range families() {
			if a.family == 0 || a.family == f {
				m.families[f] = true
			}
		}
	}
	return number
}

// profiled sets the members of the workloads, and finds workloads that are alike.
func (m *Matrix) profiled(found finds, class map[atom]int) {
	ids := make(map[string]int)
	for i, w := range m.Workloads {
		var members []member
		families := make(map[family]bool)
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

// covers returns for each of the places, which are sorted by address, a number of the blocks that have it: each number
// of blocks is there once.
func (r *rules) covers(all []place) (of []int, covers []bitset) {
	type edge struct {
		at    netip.Addr
		block int
	}
	var edges []edge // each is a begin or an end
	for b, networks := range r.blocks {
		for _, s := range networks {
			edges = append(edges, edge{s.First, b})
			if after := s.Last.Next(); after.IsValid() {
				edges = append(edges, edge{after, b})
			}
		}
	}
	slices.SortFunc(edges, func(x, y edge) int { return x.at.Compare(y.at) })
	of = make([]int, len(all))
	ids := make(map[string]int)
	var active bitset
	active.makeRoom(0, len(r.blocks)>>6+1)
	changed, last, family := true, 0, ipv4 // of the place before
	for i, p := range all {
		if f := familyOf(p.addr); f != family { // what goes on to the end of the other family has no edge there
			for len(edges) > 0 && familyOf(edges[0].at) != f {
				edges = edges[1:]
			}
			clear(active.words)
			family, changed = f, true
		}
		for ; len(edges) > 0 && !p.addr.Less(edges[0].at); edges = edges[1:] {
			active.words[edges[0].block>>6] ^= 1 << (edges[0].block & 63)
			changed = true
		}
		if changed {
			var key []byte
			for _, w := range active.words {
				key = binary.LittleEndian.AppendUint64(key, w)
			}
			last, changed = number(ids, string(key), func() {
				covers = append(covers, bitset{words: slices.Clone(active.words)})
			}), false
		}
		of[i] = last
	}
	return of, covers
}

// matchClasses notes the classes that selectors match, and those that policies select.
func (m *Matrix) matchClasses(matched []bitset, kinds *partition, class map[atom]int) {
	of := make([][]int, kinds.count)
	for a, c := range class {
		if a.kind >= 0 {
			of[a.kind] = append(of[a.kind], c)
		}
	}
	m.selectorClasses = make([]bitset, len(matched))
	for s, ids := range matched {
		for i := range ids.each {
			for _, c := range of[kinds.of[i]] {
				m.selectorClasses[s].add(c)
			}
		}
	}
	for _, all := range m.rules.tiers {
		for _, p := range all {
			for _, s := range p.subjects {
				p.pods.unite(m.selectorClasses[s])
			}
		}
	}
}

// coverClasses notes the classes that blocks have.
func (m *Matrix) coverClasses(covers []bitset, class map[atom]int) {
	m.blockClasses = make([]bitset, len(m.rules.blocks))
	for a, c := range class {
		if a.family == 0 {
			continue
		}
		for b := range covers[a.cover].each {
			m.blockClasses[b].add(c)
		}
	}
}
