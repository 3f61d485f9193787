// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"iter"

	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// What an isolation allows and asks for, by the selectors of the index.
type (
	allows = content.Content[*selector]
	demand = content.Demand[*selector]
)

// contentOf joins the rules of an isolation's policies, as far as they are within the limits.
func (s *State) contentOf(iso *isolation) allows {
	if iso.quarantine != nil {
		return allows{}
	}
	c, d := content.Of(content.Question[*selector]{
		Kind: iso.kind, Policies: iso.policies, Rules: iso.rules(s), Shared: s.policies.Shared(iso.namespace()),
		Limits: s.options.Limits, Budget: s.budgetOf(iso), Pods: matches{s},
	})
	s.setDemand(iso, d)
	return c
}

// matches is [content.Pods].
type matches struct{ s *State }

func (m matches) Selector(peer spec.Peer) *selector { return m.s.selectorOf(peer) }
func (m matches) Peer(sel *selector) spec.Peer      { return sel.Peer }
func (m matches) Addresses(sel *selector) int       { return sel.Own.addresses }
func (m matches) Wide(sel *selector) bool           { return m.s.wide(sel) }
func (m matches) Compare(a, b *selector) int        { return bySelector(a, b) }

// rules yields the rules of the isolation's policies, with the names of ports replaced by numbers where the isolated
// pod has them.
func (iso *isolation) rules(s *State) iter.Seq2[int, spec.Rule] {
	return func(yield func(int, spec.Rule) bool) {
		for i, name := range iso.policies {
			for _, r := range s.policies.Get(name).Rules(iso.kind.Direction) {
				if iso.kind.Direction == policy.Ingress {
					r.Ports = iso.numbered(r.Ports)
				}
				if !yield(i, r) {
					return
				}
			}
		}
	}
}

// numbered returns ports with the names replaced by the numbers that they have in the isolated pods.
func (iso *isolation) numbered(ports spec.RulePorts) spec.RulePorts {
	open := []spec.Ports{ports.Open}
	for _, port := range ports.Named {
		open = append(open, spec.Ports{Ranges: iso.numbers[port]})
	}
	return spec.RulePorts{Open: spec.Union(open...)}
}

// bySelector puts the selector of all namespaces first, then those of whole ones; the order must not depend on what the
// selectors match at the moment.
func bySelector(a, b *selector) int {
	return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(a.Key, b.Key))
}
