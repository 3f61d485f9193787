// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"

	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/spec"
)

// What an isolation allows and demands, by the selectors of the index.
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
		Kind: iso.kind, Policies: iso.policies,
		Rules:  s.policies.Numbered(iso.kind.Direction, iso.policies, iso.numbers),
		Shared: s.policies.Shared(iso.namespace()), Limits: s.options.Limits, Budget: s.budgetOf(iso), Pods: matches{s},
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

// bySelector orders the selector of all namespaces first, then those of whole ones; the order must not depend on what
// the selectors currently match.
func bySelector(a, b *selector) int {
	return cmp.Or(cmp.Compare(a.Rank(), b.Rank()), cmp.Compare(a.Key, b.Key))
}
