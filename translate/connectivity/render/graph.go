// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// graph is what a picture shows: only connections that policies allow specifically, since what nothing isolates would
// cover everything.
type graph struct {
	nodes []node
	edges []edge
}

// node is an end of edges. One of its fields is set besides the label.
type node struct {
	label     string
	workload  int // -1 for others
	namespace string
	networks  connectivity.Networks
	all       bool // every workload
}

// edge is what is open from a node to another.
type edge struct {
	from, to int
	cell     connectivity.Cell
}

// graph returns the graph of a view: all workloads that it shows, and what they are connected to.
func (v View) graph() graph {
	var g graph
	ids := make(map[string]int)
	for _, w := range v.shown() {
		g.workload(ids, v, w)
	}
	for _, c := range v.Connections {
		if !v.specific(c) {
			continue
		}
		for _, from := range g.side(ids, v, c.From) {
			for _, to := range g.side(ids, v, c.To) {
				g.edges = append(g.edges, edge{from, to, c.Cell})
			}
		}
	}
	return g
}

// side returns the nodes of one side of a connection: single workloads, or a whole namespace, or the cluster as one.
func (g *graph) side(ids map[string]int, v View, s connectivity.Side) []int {
	if len(s.Workloads) == 0 {
		label := strings.Join(v.Text(s), ", ")
		return []int{g.node(ids, "network "+label, node{label: label, workload: -1, networks: s.Networks})}
	}
	if len(s.Workloads) == len(v.Workloads) && len(v.Workloads) > 1 {
		return []int{g.node(ids, "all", node{label: connectivity.Everything, workload: -1, all: true})}
	}
	var nodes []int
	names, in := v.Namespaces()
	have := make(map[string]int)
	for _, w := range s.Workloads {
		have[v.Workloads[w].Namespace]++
	}
	for _, ns := range names {
		if n := len(in[ns]); n > 1 && have[ns] == n {
			nodes = append(nodes, g.node(ids, "namespace "+ns, node{label: ns + "/*", workload: -1, namespace: ns}))
			have[ns] = 0
			for _, w := range in[ns] { // so that the box is not empty
				g.workload(ids, v, w)
			}
		}
	}
	for _, w := range s.Workloads {
		if have[v.Workloads[w].Namespace] > 0 {
			nodes = append(nodes, g.workload(ids, v, w))
		}
	}
	return nodes
}

func (g *graph) workload(ids map[string]int, v View, w int) int {
	return g.node(ids, fmt.Sprint(w), node{label: v.Name(w), workload: w, namespace: v.Workloads[w].Namespace})
}

func (g *graph) node(ids map[string]int, key string, n node) int {
	id, known := ids[key]
	if !known {
		id = len(g.nodes)
		ids[key], g.nodes = id, append(g.nodes, n)
	}
	return id
}

// byNamespace returns the nodes of workloads by namespace, and the namespaces in order of appearance.
func (g graph) byNamespace() (names []string, in map[string][]int) {
	in = make(map[string][]int)
	for i, n := range g.nodes {
		if n.workload < 0 {
			continue
		}
		if in[n.namespace] == nil {
			names = append(names, n.namespace)
		}
		in[n.namespace] = append(in[n.namespace], i)
	}
	return names, in
}

// DOT writes the graph of a view for Graphviz.
func DOT(w io.Writer, v View) error {
	g := v.graph()
	var b strings.Builder
	b.WriteString("digraph connectivity {\n\trankdir=LR; compound=true; node [shape=box, style=rounded];\n")
	names, in := g.byNamespace()
	cluster := make(map[string]int)
	for i, ns := range names {
		cluster[ns] = i
		fmt.Fprintf(&b, "\tsubgraph cluster_%d {\n\t\tlabel=%q;\n", i, ns)
		for _, n := range in[ns] {
			fmt.Fprintf(&b, "\t\tn%d [label=%q, tooltip=%q];\n", n, v.Workloads[g.nodes[n].workload].Name,
				v.tooltip(g.nodes[n].workload))
		}
		b.WriteString("\t}\n")
	}
	for i, n := range g.nodes {
		if n.workload < 0 && n.namespace == "" {
			fmt.Fprintf(&b, "\tn%d [label=%q, shape=ellipse];\n", i, n.label)
		}
	}
	for _, e := range g.edges {
		attributes := fmt.Sprintf("label=%q", e.cell)
		end := func(n int, attribute string) int {
			if g.nodes[n].workload >= 0 || g.nodes[n].namespace == "" {
				return n
			}
			ns := g.nodes[n].namespace
			attributes += fmt.Sprintf(", %s=cluster_%d", attribute, cluster[ns])
			return in[ns][0]
		}
		from, to := end(e.from, "ltail"), end(e.to, "lhead")
		fmt.Fprintf(&b, "\tn%d -> n%d [%s];\n", from, to, attributes)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// tooltip describes what isolates a workload.
func (v View) tooltip(w int) string {
	return fmt.Sprintf("%s: ingress %s, egress %s", v.Workloads[w].Kind, v.isolation(policy.Ingress, w),
		v.isolation(policy.Egress, w))
}
