// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
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

// namespace returns the namespace of the isolation's policies.
func (iso *isolation) namespace() string { return iso.policies[0].Namespace }

// namespaceDemand is what the isolations of a namespace demand.
type namespaceDemand struct {
	elements, isolations int
	squeezed             bool // isolations have less than they would alone
}

// budgetOf returns how many elements an isolation may have.
func (s *State) budgetOf(iso *isolation) int {
	return content.AtMost(s.options.Limits.Elements) - iso.short
}

// setDemand replaces the demand of an isolation.
func (s *State) setDemand(iso *isolation, d demand) {
	old := iso.demand
	iso.demand = d
	if !slices.Equal(old.Over, d.Over) {
		s.troubleVersion++
		delete(s.overLimit, iso)
		if len(d.Over) > 0 {
			s.overLimit[iso] = struct{}{}
		}
	}
	n := s.demands[iso.namespace()]
	if n == nil {
		n = new(namespaceDemand)
		s.demands[iso.namespace()] = n
	}
	n.elements += d.Elements - old.Elements
	if old.Each == nil {
		n.isolations++
	}
	if d.Each != nil {
		return
	}
	n.isolations--
	if n.isolations == 0 {
		delete(s.demands, iso.namespace())
	}
}

// addAddresses notes that a selector matches n more addresses. Isolations that are or were over the limit are rebuilt,
// and all if the selector becomes or ceases to be wide.
func (s *State) addAddresses(sel *selector, n int) {
	before := s.wide(sel)
	sel.Own.addresses += n
	turned := s.wide(sel) != before
	if turned {
		maps.Copy(s.staleLists, sel.Own.lists)
	}
	for l := range sel.Own.lists {
		s.moved[l] = struct{}{}
	}
	for iso := range sel.Own.all() {
		if n > 0 {
			s.grown[iso] = struct{}{}
		}
		before, more := iso.demand.Elements, n*iso.demand.Each[sel]
		iso.demand.Elements += more
		n := s.demands[iso.namespace()]
		n.elements += more
		s.claimsChanged = s.claimsChanged || n.squeezed || n.elements > content.AtMost(s.options.Limits.Namespace)
		if turned || max(before, before+more) > iso.demand.Budget {
			s.dirtyIsolations[iso] = struct{}{}
		}
	}
}

// foresee gives an isolation that is built for the first time what its namespace has left, as far as demands are known,
// so that content over the namespace's limit is not computed only to be thrown away.
func (s *State) foresee(iso *isolation) {
	each, left := content.AtMost(s.options.Limits.Elements), content.AtMost(s.options.Limits.Namespace)
	n := s.demands[iso.namespace()]
	if iso.demand.Each != nil || n == nil || n.elements <= left {
		return
	}
	for _, have := range s.isolationsIn(iso.namespace()) {
		if byClaim(have, iso) < 0 {
			left -= min(left, each, have.demand.Elements)
		}
	}
	iso.short, n.squeezed = each-min(each, left), true // rebudget looks at it again
}

// rebudget gives the isolations of each namespace what they demand, in the order of their claims, until the namespace's
// limit is used up. Those that were built with another budget are rebuilt.
func (s *State) rebudget() {
	s.claimsChanged = false
	each, all := content.AtMost(s.options.Limits.Elements), content.AtMost(s.options.Limits.Namespace)
	for namespace, n := range s.demands {
		over := n.elements > all
		if !over && !n.squeezed {
			continue
		}
		n.squeezed = over
		left := all
		for _, iso := range s.isolationsIn(namespace) {
			iso.short = 0
			if over {
				iso.short = each - min(each, left)
				left -= min(left, each, iso.demand.Elements)
			}
			if iso.demand.Budget != each-iso.short {
				s.dirtyIsolations[iso] = struct{}{}
			}
		}
	}
}

// byClaim orders the isolations of a namespace; auditing ones come last, so that they take nothing from the others.
func byClaim(a, b *isolation) int {
	return cmp.Or(last(a.kind.Audit, b.kind.Audit), cmp.Compare(a.key, b.key))
}

// isolationsIn returns the built isolations of a namespace that have pods, in the order of their claims.
func (s *State) isolationsIn(namespace string) []*isolation {
	var all []*isolation
	for _, iso := range s.isolations {
		if iso.demand.Each != nil && len(iso.users) > 0 && iso.namespace() == namespace {
			all = append(all, iso)
		}
	}
	slices.SortFunc(all, byClaim)
	return all
}

// excessOf returns what is over a limit for a pod.
func (s *State) excessOf(p *pod) []policy.PodExcess {
	if !s.index.IsLocal(p) {
		return nil
	}
	var all []policy.PodExcess
	for _, iso := range p.Identity.Own.here().all() {
		if iso != nil && len(iso.demand.Over) > 0 {
			all = append(all, policy.PodExcess{Pod: p.Public().NamespacedName, Direction: iso.kind.Direction,
				Rules: iso.demand.Over, Audit: iso.kind.Audit})
		}
	}
	return all
}

// OverLimit returns what is over a limit for all pods of the node.
func (s *State) OverLimit() []policy.PodExcess {
	var all []policy.PodExcess
	s.eachLocal(func(_ netip.Addr, p *pod) { all = append(all, s.excessOf(p)...) })
	return all
}

// overLimits yields a trouble for each policy with rules over a limit, and each isolation.
func (s *State) overLimits(yield func(book.Trouble) bool) {
	for iso := range s.overLimit {
		for name, reason := range iso.demand.Reasons() {
			if !yield(book.Trouble{Kind: book.OverLimit, Policies: []types.NamespacedName{name}, Reason: reason}) {
				return
			}
		}
	}
}
