// SPDX-License-Identifier: Apache-2.0

// Package render writes a [connectivity.Matrix] for people and programs: as text for a terminal, Markdown for a pull
// request, JSON, a graph for Graphviz, and a picture, alone or in a self-contained page.
package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// View is the part of a matrix to show.
type View struct {
	*connectivity.Matrix
	Connections []connectivity.Connection
	Namespace   string // connections from or to it; "" shows all

	wide [2][]bool // by direction and workload: nearly everything is open between it and most workloads
}

// New returns a view of a matrix: of one namespace, or of all.
func New(m *connectivity.Matrix, namespace string) View {
	v := View{Matrix: m, Connections: m.Connections(), Namespace: namespace}
	v.findWide()
	if namespace != "" {
		v.Connections = v.within()
	}
	return v
}

// Format writes a view.
type Format func(io.Writer, View) error

// Formats returns the formats by name.
func Formats() map[string]Format {
	return map[string]Format{
		"txt": Text, "md": Markdown, "json": JSON, "dot": DOT, "svg": drawable(SVG), "html": drawable(HTML),
	}
}

// mostDrawn is how many workloads a picture shows: more are unreadable, and slow in a browser.
const mostDrawn = 500

// drawable refuses to draw too many workloads.
func drawable(f Format) Format {
	return func(w io.Writer, v View) error {
		if n := len(v.shown()); n > mostDrawn {
			return fmt.Errorf("%d workloads, more than the %d that a picture shows: choose a namespace", n, mostDrawn)
		}
		return f(w, v)
	}
}

// shown returns the workloads of the view.
func (v View) shown() []int {
	var all []int
	for i, w := range v.Workloads {
		if v.Namespace == "" || w.Namespace == v.Namespace {
			all = append(all, i)
		}
	}
	return all
}

// within returns the connections with a workload of the namespace on one side, cut down to that namespace where both
// sides are wider.
func (v View) within() []connectivity.Connection {
	split := func(s connectivity.Side) (in, rest connectivity.Side) {
		for _, w := range s.Workloads {
			if v.Workloads[w].Namespace == v.Namespace {
				in.Workloads = append(in.Workloads, w)
			} else {
				rest.Workloads = append(rest.Workloads, w)
			}
		}
		rest.Networks = s.Networks
		return in, rest
	}
	var some []connectivity.Connection
	for _, c := range v.Connections {
		from, fromElsewhere := split(c.From)
		if len(from.Workloads) > 0 {
			some = append(some, connectivity.Connection{From: from, To: c.To, Cell: c.Cell})
		}
		if to, _ := split(c.To); len(to.Workloads) > 0 && len(fromElsewhere.Workloads)+len(fromElsewhere.Networks) > 0 {
			some = append(some, connectivity.Connection{From: fromElsewhere, To: to, Cell: c.Cell})
		}
	}
	return some
}

// isolation says briefly what isolates a workload in a direction.
func (v View) isolation(d policy.Direction, workload int) string {
	names, whole := v.IsolatedBy(d, workload)
	if tiers := v.TieredBy(d, workload); len(tiers) > 0 {
		if len(names) > 0 {
			tiers = append(tiers, v.isolatedText(names, whole))
		}
		return strings.Join(tiers, "; ")
	}
	switch {
	case len(names) == 0 && v.OnHost(workload):
		return "host network"
	case len(names) == 0:
		return "open"
	}
	return v.isolatedText(names, whole)
}

func (v View) isolatedText(names []types.NamespacedName, whole bool) string { //nolint:revive // whole is a fact
	if whole {
		return shortNames(names)
	}
	return shortNames(names) + " (some pods)"
}

// shortNames names the first few policies of one namespace.
func shortNames(names []types.NamespacedName) string {
	const most = 3
	text := ""
	for i, n := range names {
		switch {
		case i == most && len(names) > most+1:
			return fmt.Sprintf("%s and %d more", text, len(names)-most)
		case i > 0:
			text += ", "
		}
		text += n.Name
	}
	return text
}

// findWide finds the workloads for which nearly everything is open to or from most others.
func (v *View) findWide() {
	var peers [2][]int
	for d := range peers {
		peers[d], v.wide[d] = make([]int, len(v.Workloads)), make([]bool, len(v.Workloads))
	}
	for _, c := range v.Connections {
		if !c.Every.Contains(policy.ICMP, 0) { // neither all nor all but a few ports
			continue
		}
		for d, ends := range [2][2][]int{
			policy.Egress: {c.From.Workloads, c.To.Workloads}, policy.Ingress: {c.To.Workloads, c.From.Workloads},
		} {
			for _, w := range ends[0] {
				peers[d][w] += len(ends[1])
				v.wide[d][w] = 2*peers[d][w] > len(v.Workloads)
			}
		}
	}
}

// specific says whether policies allow a connection specifically. The others are between workloads that no policy
// isolates, and what is left open by ClusterNetworkPolicies that deny a few things.
func (v View) specific(c connectivity.Connection) bool {
	isolated := func(d policy.Direction) func(int) bool {
		return func(w int) bool {
			names, _ := v.IsolatedBy(d, w)
			return len(names) > 0 || !v.wide[d][w] && len(v.TieredBy(d, w)) > 0
		}
	}
	return !c.Every.All() || slices.ContainsFunc(c.From.Workloads, isolated(policy.Egress)) ||
		slices.ContainsFunc(c.To.Workloads, isolated(policy.Ingress))
}
