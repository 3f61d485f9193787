// SPDX-License-Identifier: Apache-2.0

package book

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/netpold/netpold/translate/spec"
)

// maxShared is how many namespaceSelectors of a namespace's policies, the first by key, have sets that its isolations
// share and that do not count for their limits. Otherwise each pod might have different ones, each with a set of the
// whole cluster.
const maxShared = 8

// sharedKeys returns the first keys of the selectors in rules for which [IsShared] is true.
func sharedKeys(rules [2][]spec.Rule) []string {
	keys := make(map[string]struct{})
	for _, r := range slices.Concat(rules[:]...) {
		for _, peer := range r.Peers {
			if IsShared(peer) {
				keys[peer.String()] = struct{}{}
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return firstShared(slices.Collect(maps.Keys(keys)))
}

// IsShared says whether a peer is pods of whole namespaces by a kind of selector of which there may be any number.
// (Selectors for one label's value are excluded: no more of them have pods than namespaces have labels.)
func IsShared(p spec.Peer) bool {
	if !p.Whole() || p.Namespaces == nil || p.Namespaces.Empty() {
		return false
	}
	requirements, _ := p.Namespaces.Requirements()
	asksValue := func(r labels.Requirement) bool {
		return (r.Operator() == selection.In || r.Operator() == selection.Equals) && r.Values().Len() == 1
	}
	return len(requirements) != 1 || !asksValue(requirements[0])
}

// firstShared returns the first distinct keys.
func firstShared(keys []string) []string {
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys[:min(len(keys), maxShared)]
}

// Shared returns the keys of the shared selectors of a namespace.
func (b *Policies) Shared(namespace string) []string { return b.shared[namespace] }

// reshare updates the shared selectors of a namespace after a policy was replaced, and says whether one left them, or
// may have joined them.
func (b *Policies) reshare(namespace string, old, next *Policy) bool {
	before := b.shared[namespace]
	keys := slices.Clone(before)
	if old != nil && len(old.shared) > 0 {
		keys = nil
		for _, p := range b.all[namespace] {
			keys = append(keys, p.shared...)
		}
	}
	if next != nil {
		keys = append(keys, next.shared...)
	}
	keys = firstShared(keys)
	if slices.Equal(keys, before) {
		return false
	}
	b.shared[namespace] = keys
	if len(keys) == 0 {
		delete(b.shared, namespace)
	}
	gone := func(key string) bool { return !slices.Contains(keys, key) }
	return len(before) >= maxShared || slices.ContainsFunc(before, gone)
}
