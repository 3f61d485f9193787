// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"embed"
	"encoding/json"
	"html"
	"io"
	"strings"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// The page, its style and script, and the library that it uses, with its licence.
//
//go:embed assets
var assets embed.FS //nolint:gochecknoglobals // embedded files

// pageData is the data of a page's script.
type pageData struct {
	Namespace   string           `json:"namespace"` // connections are from or to it; "" shows all
	Workloads   []pageWorkload   `json:"workloads"`
	Nodes       []pageNode       `json:"nodes"`
	Edges       []pageEdge       `json:"edges"`
	Connections []pageConnection `json:"connections"`

	*connectivity.Reasons
}

type pageWorkload struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Kind      string `json:"kind"`
	Pods      int    `json:"pods"`
	Ingress   string `json:"ingress"`
	Egress    string `json:"egress"`
}

type pageNode struct {
	Label     string `json:"label"`
	Workloads []int  `json:"workloads"` // that it stands for
	Network   int    `json:"network"`   // its index; -1 for none
}

type pageEdge struct {
	From  int    `json:"from"`
	To    int    `json:"to"`
	Ports string `json:"ports"`
}

type pageConnection struct {
	From     []int  `json:"from"` // workloads; none for networks
	To       []int  `json:"to"`
	FromText string `json:"fromText"`
	ToText   string `json:"toText"`
	Ports    string `json:"ports"`
}

// HTML writes a view as one self-contained page: a picture to click on. It does not use html/template, which makes the
// linker keep every method of every type and the program a third larger.
func HTML(w io.Writer, v View) error {
	l := layOut(v.graph())
	data, err := json.Marshal(v.pageData(l.graph))
	if err = cmp.Or(err, v.Err()); err != nil {
		return err
	}
	var picture strings.Builder
	v.picture(&picture, l, "")
	read := func(name string) string {
		text, _ := assets.ReadFile("assets/" + name) // embedded, so it exists
		return string(text)
	}
	title, namespaces := "Connectivity", ""
	if v.Namespace != "" {
		title += " of " + v.Namespace
	}
	for _, name := range l.names {
		namespaces += "<option>" + html.EscapeString(name) + "</option>"
	}
	audited := v.auditedText()
	if audited != "" {
		audited = `<p id="audited">` + html.EscapeString(audited) + "</p>\n"
	}
	_, err = strings.NewReplacer(
		"{{title}}", html.EscapeString(title), "{{namespaces}}", namespaces, "{{audited}}", audited,
		"{{picture style}}", read("picture.css"), "{{style}}", read("page.css"), "{{picture}}", picture.String(),
		"{{licence}}", read("d3.LICENSE"), "{{library}}", read("d3.min.js"),
		"{{program}}", read("page.js"), "{{data}}", string(data), // json.Marshal leaves no < in JSON
	).WriteString(w, read("page.html"))
	return err
}

// pageData returns what a page's script needs.
func (v View) pageData(g graph) pageData {
	d := pageData{Namespace: v.Namespace, Workloads: []pageWorkload{}, Nodes: []pageNode{}, Edges: []pageEdge{},
		Connections: []pageConnection{}} // nil would be null in JSON
	for i, w := range v.Workloads {
		d.Workloads = append(d.Workloads, pageWorkload{
			v.Name(i), w.Namespace, w.Kind, v.Pods(i), v.isolation(policy.Ingress, i), v.isolation(policy.Egress, i),
		})
	}
	var networks []connectivity.Networks
	_, in := v.Namespaces()
	var drawn []int
	for _, n := range g.nodes {
		node := pageNode{Label: n.label, Network: -1, Workloads: []int{}}
		switch {
		case n.workload >= 0:
			node.Workloads = []int{n.workload}
			drawn = append(drawn, n.workload)
		case n.namespace != "":
			node.Workloads = in[n.namespace]
		case n.all:
			for i := range v.Workloads {
				node.Workloads = append(node.Workloads, i)
			}
		default:
			node.Network = len(networks)
			networks = append(networks, n.networks)
		}
		d.Nodes = append(d.Nodes, node)
	}
	for _, e := range g.edges {
		d.Edges = append(d.Edges, pageEdge{e.from, e.to, e.cell.String()})
	}
	for _, c := range v.Connections {
		from, to := strings.Join(v.Text(c.From), ", "), strings.Join(v.Text(c.To), ", ")
		connection := pageConnection{c.From.Workloads, c.To.Workloads, from, to, c.String()}
		d.Connections = append(d.Connections, connection)
	}
	d.Reasons = v.Reasons(drawn, networks)
	return d
}
