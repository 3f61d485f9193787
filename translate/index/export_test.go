// SPDX-License-Identifier: Apache-2.0

package index

// Sizes returns how many objects of each kind the index remembers, for tests that look for leaks.
func (x *Index[I, S]) Sizes() map[string]int {
	sizes := map[string]int{
		"local": len(x.local), "inhabited": len(x.inhabited),
		"sandboxes": len(x.sandboxes), "sandboxesOf": len(x.sandboxesOf),
		"owners": len(x.owners), "rivals": len(x.rivals), "hosts": len(x.hosts),
		"namespaces": len(x.namespaces), "selectors": len(x.selectors), "ofCluster": len(x.ofCluster),
	}
	sizes["numbered"] = len(x.identities.things) - len(x.identities.vacant)
	sizes["known"] = len(x.known.things) - len(x.known.vacant)
	sizes["terms"] = len(x.identities.ids) + len(x.known.ids)
	sizes["crowded"] = len(x.identities.crowded) + len(x.known.crowded)
	sizes["entries"] = len(x.identities.entries) - len(x.identities.free) +
		len(x.known.entries) - len(x.known.free)
	sizes["askers"] = x.byPod.len() + x.byNamespace.len()
	for _, ns := range x.namespaces {
		sizes["pods"] += len(ns.Pods)
		sizes["identities"] += len(ns.Identities)
		sizes["askers"] += ns.byPod.len()
		for _, id := range ns.Identities {
			sizes["identityPods"] += len(id.pods)
			sizes["links"] += len(id.Selectors)
			sizes["owned"] += len(id.Local)
		}
	}
	for _, sel := range x.selectors {
		sizes["matches"] += len(sel.Matches)
		sizes["askers"] -= sel.asksBy() // which requirement it is depends on what was before
	}
	return sizes
}

// len is how many there are, each as often as terms have it.
func (a *askers[I, S]) len() int {
	n := len(a.always)
	for _, have := range a.by {
		n += max(1, len(have.more))
	}
	return n
}

// asksBy is how many terms have the selector among the askers.
func (sel *Selector[I, S]) asksBy() int {
	distinct := make(map[term]struct{})
	if sel.requires == nil {
		return 1
	}
	for t := range termsOf(sel.requires) {
		distinct[t] = struct{}{}
	}
	return len(distinct)
}
