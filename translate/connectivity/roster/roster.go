// SPDX-License-Identifier: Apache-2.0

package roster

import (
	"cmp"
	"slices"
	"strings"

	"github.com/netpold/netpold/translate/connectivity/sets"
)

// Roster has the workloads that an answer is about.
type Roster struct {
	Workloads []Workload // sorted by namespace and name

	Host     []bool // in the host network
	Families map[sets.Family]bool
	names    []string // of the namespaces, once asked for
	in       map[string][]int
	labels   []string // cache of Name; "" if not computed
}

// OnHost says whether a workload is in the host network: it has nodes' addresses, and policies treat it as nodes.
func (m *Roster) OnHost(workload int) bool { return m.Host[workload] }

// Name returns the name of a workload for an operator: "namespace/name", with the kind if two share a name, and with
// "(node)" in the host network, where it has the node's addresses.
func (m *Roster) Name(workload int) string {
	if m.labels == nil {
		m.labels = make([]string, len(m.Workloads))
	}
	if m.labels[workload] == "" {
		m.labels[workload] = m.name(workload)
	}
	return m.labels[workload]
}

func (m *Roster) name(workload int) string {
	w := m.Workloads[workload]
	same := func(i int) bool {
		return 0 <= i && i < len(m.Workloads) && m.Workloads[i].Namespace == w.Namespace &&
			m.Workloads[i].Name == w.Name
	}
	switch {
	case m.OnHost(workload):
		return w.String() + " (node)"
	case same(workload-1) || same(workload+1):
		return w.String() + " (" + w.Kind + ")"
	}
	return w.String()
}

// Namespaces returns the namespaces of the workloads, sorted, and the workloads of each. They must not be changed.
func (m *Roster) Namespaces() ([]string, map[string][]int) {
	if m.in != nil {
		return m.names, m.in
	}
	m.in = make(map[string][]int)
	for i, w := range m.Workloads {
		if m.in[w.Namespace] == nil {
			m.names = append(m.names, w.Namespace)
		}
		m.in[w.Namespace] = append(m.in[w.Namespace], i)
	}
	return m.names, m.in
}

// Words in place of names.
const (
	Everything = "every workload"
	Outside    = "outside"
)

// Text returns a side for an operator, as a list of parts: names, "shop/*" for all workloads of a namespace, or
// [Everything], with exceptions; CIDRs, or [Outside] for every address.
func (m *Roster) Text(s Side) []string {
	if len(s.Workloads) == 0 {
		if m.wholeOutside(s.Networks) {
			return []string{Outside}
		}
		return strings.Split(s.Networks.String(), ", ")
	}
	runs, some, but := m.runs(s.Workloads)
	parts := make([]string, 0, min(some, but+1))
	for _, r := range runs {
		if but+1 < some {
			r.but = !r.but
		}
		parts = m.phrase(parts, r)
	}
	switch {
	case but == 0:
		return []string{Everything}
	case but+1 < some:
		parts[0] = Everything + " except " + parts[0]
	}
	return parts
}

// run is some of all workloads of one namespace; both are sorted.
type run struct {
	some, all []int
	but       bool // it means those not in some
}

// count returns how many workloads the run means, and how many not.
func (r run) count() (meant, others int) {
	if meant, others = len(r.some), len(r.all)-len(r.some); r.but {
		return others, meant
	}
	return meant, others
}

// runs splits the workloads of each namespace into those in some, which must be sorted likewise, and the others. It
// returns how many parts phrase makes of either.
func (m *Roster) runs(some []int) (all []run, parts, but int) {
	names, in := m.Namespaces()
	all = make([]run, len(names))
	for i, ns := range names {
		whole, n := in[ns], 0
		if last := whole[len(whole)-1]; len(some) > 0 && some[0] <= last {
			n, _ = slices.BinarySearch(some, last+1)
		}
		all[i] = run{some: some[:n], all: whole}
		parts, but = parts+phrases(n, len(whole)-n), but+phrases(len(whole)-n, n)
		some = some[n:]
	}
	return all, parts, but
}

// phrases returns how many parts phrase adds for workloads of a namespace that has others.
func phrases(workloads, others int) int {
	switch {
	case others == 0 && workloads > 1:
		return 1
	case others+1 < workloads:
		return others
	}
	return workloads
}

// phrase adds the names of the workloads of one namespace that a run means.
func (m *Roster) phrase(parts []string, r run) []string {
	meant, others := r.count()
	if meant == 0 {
		return parts
	}
	whole := m.Workloads[r.all[0]].Namespace + "/*"
	switch {
	case others == 0 && meant > 1:
		return append(parts, whole)
	case others+1 < meant:
		r.but = !r.but
	default:
		whole = ""
	}
	add := func(w int) {
		name := m.Name(w)
		if whole != "" {
			name, whole = whole+" except "+name, ""
		}
		parts = append(parts, name)
	}
	if !r.but { // all may be many more
		for _, w := range r.some {
			add(w)
		}
		return parts
	}
	rest := r.some
	for _, w := range r.all {
		if len(rest) > 0 && rest[0] == w {
			rest = rest[1:]
			continue
		}
		add(w)
	}
	return parts
}

// wholeOutside says whether networks cover the families of the cluster's pods.
func (m *Roster) wholeOutside(n sets.Networks) bool {
	for f := range m.Families {
		if !slices.Contains(n, sets.WholeFamily(f)) {
			return false
		}
	}
	return true
}

// Side is one side of connections: workloads, by index, or networks outside the cluster.
type Side struct {
	Workloads []int // sorted
	Networks  sets.Networks
}

// CompareSides orders sides: workloads first, by index.
func CompareSides(a, b Side) int {
	return cmp.Or(cmp.Compare(len(a.Networks), len(b.Networks)), slices.Compare(a.Workloads, b.Workloads),
		slices.CompareFunc(a.Networks, b.Networks, sets.CompareSpans))
}
