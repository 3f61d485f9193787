// SPDX-License-Identifier: Apache-2.0

package render

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/netpold/netpold/translate/policy"
)

//go:embed assets/picture.css
var pictureStyle string //nolint:gochecknoglobals // an embedded file

// SVG writes a view as a self-contained picture.
func SVG(w io.Writer, v View) error {
	var b strings.Builder
	v.picture(&b, layOut(v.graph()), "<style>"+pictureStyle+"</style>")
	_, err := io.WriteString(w, b.String())
	return err
}

// labelled is the most edges that get labels with their ports; more would be unreadable.
const labelled = 60

// picture writes the SVG of a layout.
func (v View) picture(b *strings.Builder, l *layout, style string) {
	var key strings.Builder
	v.legend(&key, l)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" id="picture" viewBox="0 0 %.0f %.0f" `+
		`font-family="system-ui, sans-serif">`, l.width, l.height)
	b.WriteString(style + `<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" ` +
		`markerHeight="7" orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" class="head"/></marker></defs>` +
		`<rect class="paper" width="100%" height="100%"/><g id="all">`)
	for _, ns := range l.names {
		r, title := l.namespaces[ns], l.titleOf(ns)
		name := html.EscapeString(ns)
		fmt.Fprintf(b, `<g class="namespace" data-namespace="%s"><rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" `+
			`rx="12"/><text x="%.0f" y="%.0f" font-size="%.1f">%s</text></g>`,
			name, r.x, r.y, r.w, r.h, title.x, title.y+l.title, title.h, name)
	}
	labels := l.writeEdges(b)
	for i, n := range l.graph.nodes {
		switch {
		case n.workload >= 0:
			v.card(b, i, n.workload, l.nodes[i])
		case n.namespace == "":
			writeNetwork(b, i, l.nodes[i], l.lines[i])
		}
	}
	b.WriteString(labels + key.String() + "</g></svg>\n")
}

// writeEdges writes the edges, and returns their labels, which go on top of the cards.
func (l *layout) writeEdges(b *strings.Builder) (labels string) {
	var text strings.Builder
	from, to := l.anchors()
	taken := slices.Clone(l.nodes)
	for i, n := range l.graph.nodes {
		if n.workload < 0 && n.namespace != "" {
			taken[i] = box{} // there is room in a namespace
		}
	}
	for _, ns := range l.names {
		taken = append(taken, l.titleOf(ns))
	}
	for i, e := range l.edges {
		p, q := from[i], to[i]
		sideA, sideB := sides(l.nodes[e.from], l.nodes[e.to])
		bend := max(30, min(160, math.Abs(q.x-p.x)/2))
		c1, c2 := p.x+bend*float64(2*sideA-1), q.x+bend*float64(2*sideB-1)
		fmt.Fprintf(b, `<path class="edge" data-edge="%d" d="M%.1f,%.1f C%.1f,%.1f %.1f,%.1f %.1f,%.1f" `+
			`marker-end="url(#arrow)"><title>%s</title></path>`,
			i, p.x, p.y, c1, p.y, c2, q.y, q.x, q.y, html.EscapeString(l.edgeTitle(e)))
		if len(l.edges) <= labelled {
			ports := shorten(e.cell.String(), 26)
			at := place(&taken, float64(utf8.RuneCountInString(ports))*6.2, [4]point{p, {c1, p.y}, {c2, q.y}, q})
			fmt.Fprintf(&text, `<text class="ports" data-edge="%d" x="%.0f" y="%.0f">%s</text>`, i, at.x, at.y-3,
				html.EscapeString(ports))
		}
	}
	return text.String()
}

// place takes a place along a curve for a label of a width, a free one if possible.
func place(taken *[]box, width float64, curve [4]point) point {
	var best point
	for i, t := range []float64{.5, .42, .58, .34, .66, .26, .74, .18, .82} {
		u := 1 - t
		weight := [4]float64{u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t}
		var p point
		for k, c := range curve {
			p.x, p.y = p.x+weight[k]*c.x, p.y+weight[k]*c.y
		}
		label := box{p.x - width/2, p.y - 14, width, 14}
		meets := func(b box) bool {
			return b.x < label.x+label.w && label.x < b.x+b.w && b.y < label.y+label.h && label.y < b.y+b.h
		}
		if free := !slices.ContainsFunc(*taken, meets); free || i == 0 {
			best = p
			if free {
				break
			}
		}
	}
	*taken = append(*taken, box{best.x - width/2, best.y - 14, width, 14})
	return best
}

// legend explains the bars at the sides of cards that occur in the picture.
func (v View) legend(b *strings.Builder, l *layout) {
	used := make(map[string]bool)
	for _, n := range l.graph.nodes {
		for _, d := range policy.Directions() {
			if n.workload >= 0 {
				used[v.gate(d, n.workload)] = true
			}
		}
	}
	const narrow = 640.0
	x, y, right := boxGap, l.height, 0.0
	for _, part := range [][2]string{
		{"", "bars of a card: ingress left, egress right"},
		{"isolated", "NetworkPolicies isolate the pods"}, {"partly", "NetworkPolicies isolate some of the pods"},
		{"tiered", "only ClusterNetworkPolicies have a say"}, {"open", "no policy has a say"},
		{"host", "host network: policies see the node"},
	} {
		width := 34 + 6.1*float64(len(part[1]))
		switch {
		case part[0] != "" && !used[part[0]]:
			continue
		case x+width > max(l.width, narrow):
			x, y = boxGap, y+20
		}
		b.WriteString(`<g class="legend">`)
		if part[0] != "" {
			fmt.Fprintf(b, `<rect class="gate %s" x="%.0f" y="%.0f" width="4" height="14" rx="2"/>`, part[0], x, y-6)
		}
		fmt.Fprintf(b, `<text x="%.0f" y="%.0f">%s</text></g>`, x+10, y+5, part[1])
		x += width
		right = max(right, x)
	}
	l.width, l.height = max(l.width, right), y+24
}

// gate returns the style of the bar at one side of a workload.
func (v View) gate(d policy.Direction, w int) string {
	names, whole := v.IsolatedBy(d, w)
	switch {
	case v.OnHost(w):
		return "host"
	case len(names) > 0 && whole:
		return "isolated"
	case len(names) > 0:
		return "partly"
	case len(v.TieredBy(d, w)) > 0:
		return "tiered"
	}
	return "open"
}

// edgeTitle describes an edge.
func (l *layout) edgeTitle(e edge) string {
	return fmt.Sprintf("%s → %s: %s", l.graph.nodes[e.from].label, l.graph.nodes[e.to].label, e.cell)
}

// card writes a workload: its name and kind, and at either side whether policies isolate it for ingress and egress.
func (v View) card(b *strings.Builder, node, w int, r box) {
	workload := v.Workloads[w]
	pods := "pods"
	if v.Pods(w) == 1 {
		pods = "pod"
	}
	fmt.Fprintf(b, `<g class="workload" data-node="%d" data-namespace="%s" transform="translate(%.0f %.0f)">`+
		`<title>%s</title>`, node, html.EscapeString(workload.Namespace), r.x, r.y,
		html.EscapeString(v.Name(w)+"\n"+v.tooltip(w)))
	fmt.Fprintf(b, `<rect class="card" width="%.0f" height="%.0f" rx="8"/>`, r.w, r.h)
	const gate = `<rect class="gate %s" x="%.0f" y="7" width="4" height="%.0f" rx="2"/>`
	fmt.Fprintf(b, gate, v.gate(policy.Ingress, w), 4.0, r.h-14)
	fmt.Fprintf(b, gate, v.gate(policy.Egress, w), r.w-8, r.h-14)
	fmt.Fprintf(b, `<text class="name" x="16" y="19">%s</text><text class="kind" x="16" y="34">%s · %d %s</text></g>`,
		html.EscapeString(shorten(workload.Name, 21)), html.EscapeString(workload.Kind), v.Pods(w), pods)
}

// writeNetwork writes a node that is not a workload.
func writeNetwork(b *strings.Builder, node int, r box, lines []string) {
	fmt.Fprintf(b, `<g class="network" data-node="%d" transform="translate(%.0f %.0f)">`+
		`<rect class="card" width="%.0f" height="%.0f" rx="14"/>`, node, r.x, r.y, r.w, r.h)
	for i, line := range lines {
		fmt.Fprintf(b, `<text x="14" y="%.0f">%s</text>`, 22+float64(i)*lineHeight, html.EscapeString(line))
	}
	b.WriteString("</g>")
}

// shorten leaves out the middle of a long text: names differ at the beginning or end.
func shorten(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	runes := []rune(text)
	return string(runes[:most*2/3-1]) + "…" + string(runes[len(runes)-most/3:])
}
