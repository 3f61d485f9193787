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
}

// OnHost says whether a workload is in the host network: it has the addresses of nodes, and policies take it for these.
func (m *Roster) OnHost(workload int) bool { return m.host[workload] }

// Name returns the name of a workload for an operator: "namespace/name", with the kind where two have one name, and
// "(node)" where it is in the host network, as it is the node's addresses that it has.
func (m *Roster) Name(workload int) string {
	w := m.Workloads[workload]
	same := func(i int) bool {
		return 0 <= i && i < len(m.Workloads) && m.Workloads[i].String() == w.String()
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
	parts := m.parts(s.Workloads)
	others := m.without(s.Workloads)
	if len(others) == 0 {
		return []string{Everything}
	}
	if but := m.parts(others); len(but)+1 < len(parts) {
		but[0] = Everything + " except " + but[0]
		return but
	}
	return parts
}

// without returns the workloads that are not among some, which are sorted.
func (m *Roster) without(some []int) []int {
	var others []int
	for w := range m.Workloads {
		if len(some) > 0 && some[0] == w {
			some = some[1:]
			continue
		}
		others = append(others, w)
	}
	return others
}

// parts names workloads by namespaces.
func (m *Roster) parts(workloads []int) []string {
	names, in := m.Namespaces()
	have := make(map[string][]int)
	for _, w := range workloads {
		have[m.Workloads[w].Namespace] = append(have[m.Workloads[w].Namespace], w)
	}
	var parts []string
	for _, ns := range names {
		list := func(all []int) []string {
			text := make([]string, len(all))
			for i, w := range all {
				text[i] = m.Name(w)
			}
			return text
		}
		others := slices.DeleteFunc(slices.Clone(in[ns]), func(w int) bool { return has(have[ns], w) })
		switch {
		case len(have[ns]) == 0:
		case len(others) == 0 && len(have[ns]) > 1:
			parts = append(parts, ns+"/*")
		case len(others)+1 < len(have[ns]):
			but := list(others)
			but[0] = ns + "/* except " + but[0]
			parts = append(parts, but...)
		default:
			parts = append(parts, list(have[ns])...)
		}
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
