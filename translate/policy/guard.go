// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Guard is what a node drops whatever policies say: packets from or to its pod addresses that belong to no known pod.
// It goes by the node's pod address ranges, or else by its pods' links.
type Guard struct {
	Node   string
	Ranges []netip.Prefix // sorted, and none overlaps another
	Links  []string       // names, or prefixes with an asterisk
}

// On says whether the guard drops anything.
func (g Guard) On() bool { return len(g.Ranges)+len(g.Links) > 0 }

// Equal says whether two guards are the same.
func (g Guard) Equal(other Guard) bool {
	return slices.Equal(g.Ranges, other.Ranges) && slices.Equal(g.Links, other.Links)
}

// String returns the ranges or links, or "".
func (g Guard) String() string {
	var names []string
	for _, p := range g.Ranges {
		names = append(names, p.String())
	}
	return strings.Join(append(names, g.Links...), ", ")
}

// unknown says whether a flow meets the guard in a direction.
func (c *Cluster) unknown(d Direction, f Flow, pod *Pod) bool {
	g := c.Guard
	if g == nil || pod != nil && pod.Node == g.Node || isDiscovery(f) {
		return false
	}
	address, link, none := f.Src, f.In, f.FromNode
	if d == Ingress {
		address, link, none = f.Dst, f.Out, f.ToNode || f.Dst.IsMulticast()
	}
	if none || f.ToNode && c.PodToNode == AllowPodToNode {
		return false
	}
	return slices.ContainsFunc(g.Ranges, func(p netip.Prefix) bool { return p.Contains(address) }) ||
		slices.ContainsFunc(g.Links, func(name string) bool {
			prefix, open := strings.CutSuffix(name, "*")
			return link == name || open && link != "" && strings.HasPrefix(link, prefix)
		})
}

// unknownText says why the guard drops what comes from or goes to an address.
func (g *Guard) unknownText(a netip.Addr) string {
	return fmt.Sprintf("no pod of node %s is known to have the address %s (yet), which is for its pods (%s)",
		g.Node, a, g)
}
