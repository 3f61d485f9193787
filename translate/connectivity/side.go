// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"slices"
	"strings"
)

// Roster is the workloads that an answer is about.
type Roster struct {
	Workloads []Workload // sorted by namespace and name

	host     []bool // in the host network
	families map[family]bool
	names    []string // of the namespaces, once they were asked for
	in       map[string][]int
	labels   []string // what Name returned; "" before
}

// OnHost says whether a workload is in the host network: it has the addresses of nodes, and policies take it for these.
func (m *Roster) OnHost(workload int) bool { return m.host[workload] }

// Name returns the name of a workload for an operator: "namespace/name", with the kind where two have one name, and
// "(node)" where it is in the host network, as it is the node's addresses that it has.
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

// Words for what is not a name.
const (
	Everything = "every workload"
	Outside    = "outside"
)

// Text returns a side for an operator, as parts that belong together: names, "shop/*" for all workloads of a namespace,
// [Everything], and what is excepted from them; CIDRs, or [Outside] for every address.
func (m *Roster) Text(s Side) []string {
	if len(s.Workloads) == 0 {
		if m.wholeOutside(s.Networks) {
			return []string{Outside}
		}
		return strings.Split(s.Networks.String(), ", ")
	}
	var some, but int // how many parts it has, either way of saying it
	runs := m.runs(s.Workloads)
	for _, r := range runs {
		some, but = some+phrases(r.have, r.others), but+phrases(r.others, r.have)
	}
	var parts []string
	for _, r := range runs {
		if but+1 < some {
			r = run{r.others, r.have}
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

// run is workloads of one namespace, and the others of that namespace; both are sorted.
type run struct{ have, others []int }

// runs parts the workloads of each namespace into those that are among some, which are sorted as they are, by
// namespace, and the others.
func (m *Roster) runs(some []int) []run {
	names, in := m.Namespaces()
	all := make([]run, len(names))
	for i, ns := range names {
		r := &all[i]
		n := 0
		for n < len(some) && some[n] <= in[ns][len(in[ns])-1] {
			n++
		}
		if r.have, some = some[:n], some[n:]; n == 0 {
			r.others = in[ns]
			continue
		}
		rest := r.have
		for _, w := range in[ns] {
			if len(rest) > 0 && rest[0] == w {
				rest = rest[1:]
				continue
			}
			r.others = append(r.others, w)
		}
	}
	return all
}

// phrases returns how many parts phrase adds for workloads of a namespace that has others.
func phrases(workloads, others []int) int {
	switch {
	case len(others) == 0 && len(workloads) > 1:
		return 1
	case len(others)+1 < len(workloads):
		return len(others)
	}
	return len(workloads)
}

// phrase adds the names of workloads of one namespace.
func (m *Roster) phrase(parts []string, r run) []string {
	if len(r.have) == 0 {
		return parts
	}
	whole := m.Workloads[r.have[0]].Namespace + "/*"
	switch {
	case len(r.others) == 0 && len(r.have) > 1:
		return append(parts, whole)
	case len(r.others)+1 < len(r.have):
		parts = append(parts, whole+" except "+m.Name(r.others[0]))
		r.have = r.others[1:]
	}
	for _, w := range r.have {
		parts = append(parts, m.Name(w))
	}
	return parts
}

// wholeOutside says whether networks are all addresses of the families that the cluster's pods have.
func (m *Roster) wholeOutside(n Networks) bool {
	for f := range m.families {
		if !slices.Contains(n, wholeFamily(f)) {
			return false
		}
	}
	return true
}

// Within returns the connections of which one side is a workload of the namespace, and of the others only those parts.
func (m *Matrix) Within(namespace string, all []Connection) []Connection {
	split := func(s Side) (in, rest Side) {
		for _, w := range s.Workloads {
			if m.Workloads[w].Namespace == namespace {
				in.Workloads = append(in.Workloads, w)
			} else {
				rest.Workloads = append(rest.Workloads, w)
			}
		}
		rest.Networks = s.Networks
		return in, rest
	}
	var some []Connection
	for _, c := range all {
		from, fromElsewhere := split(c.From)
		if len(from.Workloads) > 0 {
			some = append(some, Connection{from, c.To, c.Cell})
		}
		if to, _ := split(c.To); len(to.Workloads) > 0 && len(fromElsewhere.Workloads)+len(fromElsewhere.Networks) > 0 {
			some = append(some, Connection{fromElsewhere, to, c.Cell})
		}
	}
	return some
}
