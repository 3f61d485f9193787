// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Written are the rules of policies for a kind of pod at a place.
type Written struct {
	Place
	Key      string                 // of their meaning
	Policies []types.NamespacedName // without namespace, in order of evaluation

	of       []*book.ClusterPolicy
	resolved map[*spec.ClusterRule]spec.ClusterRule // only those that differ from the text
}

// Read returns the rules of policies for pods with some named ports, given the nodes.
func (p Place) Read(of []*book.ClusterPolicy, ports []policy.NamedPort, nodes map[string]policy.NodePeer) Written {
	w := Written{
		Place: p, Policies: make([]types.NamespacedName, len(of)),
		of: of, resolved: make(map[*spec.ClusterRule]spec.ClusterRule),
	}
	fields := []string{p.Tier.Prefix(p.Direction)}
	for i, from := range of {
		w.Policies[i].Name = from.Name
		fields = append(fields, from.Name, from.Hash)
		if !from.Depends(p.Direction) {
			continue
		}
		rules := from.Rules(p.Direction)
		for i := range rules {
			if r, found := p.complete(rules[i], ports, nodes); found != nil {
				w.resolved[&rules[i]] = r
				fields = append(fields, found...)
			}
		}
	}
	w.Key = nft.Hash(fields...)
	return w
}

// complete resolves in a rule, for pods with some named ports, what its text leaves open: the numbers of port names,
// and the addresses of nodes. It also returns these; nil if there is nothing to resolve.
func (p Place) complete(r spec.ClusterRule, ports []policy.NamedPort, nodes map[string]policy.NodePeer) (
	spec.ClusterRule, []string) {
	var found []string
	if p.Direction == policy.Ingress && len(r.Named) > 0 {
		r.Ports, r.Named = resolve(r, ports), nil
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

// Rules returns the rules in order of evaluation.
func (w Written) Rules() []Rule {
	var all []Rule
	for _, p := range w.of {
		rules := p.Rules(w.Direction)
		for i := range rules {
			r, found := w.resolved[&rules[i]]
			if !found {
				r = rules[i]
			}
			all = append(all, Rule{ClusterRule: r, Policy: p.Name})
		}
	}
	return all
}
