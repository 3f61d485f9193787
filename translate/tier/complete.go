// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Complete resolves in a rule, for pods with some named ports, what its text leaves open: the numbers of port names,
// and the addresses of nodes. It also returns these; nil if there is nothing to resolve.
func (p Place) Complete(r spec.ClusterRule, ports []policy.NamedPort, nodes map[string]policy.NodePeer) (
	spec.ClusterRule, []string) {
	var found []string
	if p.Direction == policy.Ingress && len(r.Named) > 0 {
		r.Ports, r.Named = Resolve(r, ports), nil
		found = append(found, r.Ports.Key())
	}
	if len(r.Nodes) == 0 {
		return r, found
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		selects := func(sel labels.Selector) bool { return sel.Matches(labels.Set(n.Labels)) }
		if !slices.ContainsFunc(r.Nodes, selects) {
			continue
		}
		for _, a := range n.Addresses {
			found = append(found, a.String())
			r.Networks = append(slices.Clip(r.Networks), netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return r, found
}
