// SPDX-License-Identifier: Apache-2.0

package random

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/policy"
)

// podCIDRs returns the pod CIDRs of a node: around all pods (but not the prober, which is in 192.0.0.0/24), around many
// of them, or none.
func (g *Generator) podCIDRs() []netip.Prefix {
	all := prefixes("0.0.0.0/1", "128.0.0.0/2", "192.128.0.0/9", "193.0.0.0/8", "194.0.0.0/7", "196.0.0.0/6",
		"200.0.0.0/5", "208.0.0.0/4", "224.0.0.0/3", "::/1", "8000::/1")
	return pick(g.r, all, all,
		prefixes("10.0.0.0/8", "fd00::/8"), prefixes("10.0.2.0/24"), nil)
}

// SetGuard sets the guard of a seed in options: a quarter have none.
func SetGuard(o *translate.Options, seed uint64) {
	r := Source(^seed)
	o.Guard.UnknownPods = [...]guard.UnknownPods{
		guard.Allow, guard.Deny, guard.Auto, guard.Auto,
	}[seed%4]
	if r.IntN(2) == 0 {
		o.Guard.Ranges = guard.Ranges(pick(r, prefixes("10.0.2.0/25", "fd00::/113"),
			prefixes("10.0.0.1/32", "10.0.2.0/23", "10.0.3.128/25")))
	}
}

// Guard returns the guard that a node with the options should have, following docs/first-packet.md, independently of
// translate.
func Guard(c *policy.Cluster, node string, o translate.Options) *policy.Guard {
	g := &policy.Guard{Node: node, Ranges: c.Nodes[node]}
	within := func(a netip.Addr) bool {
		return slices.ContainsFunc(g.Ranges, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	var claimed []netip.Addr
	for _, p := range c.Pods {
		claimed = append(claimed, p.IPs...)
	}
	for _, b := range c.Sandboxes {
		claimed = append(claimed, b.IPs...)
	}
	for _, a := range claimed {
		if p := c.Owner(a); p != nil && p.Node == node && !within(a) {
			g.Ranges = nil
		}
	}
	if len(g.Ranges) == 0 {
		g.Ranges = o.Guard.Ranges
	}
	if len(g.Ranges) == 0 {
		g.Links = o.Guard.Links
	}
	if !g.On() || o.Guard.UnknownPods == guard.Allow ||
		o.Guard.UnknownPods == guard.Auto && !c.GateReached {
		return nil
	}
	return g
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}
