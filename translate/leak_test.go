// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"k8s.io/apimachinery/pkg/labels"
)

// Sizes returns how many objects of each kind the state remembers, for the tests that look for leaks.
func (s *State) Sizes() map[string]int {
	sizes := map[string]int{
		"isolations": len(s.isolations), "chains": len(s.chains), "portChains": len(s.openings.Users()),
		"dirtyIdentities": len(s.dirtyIdentities),
		"relisted":        len(s.relisted),
		"dirtyIsolations": len(s.dirtyIsolations), "dirtyChains": len(s.dirtyChains), "orphans": len(s.orphans),
		"lists": len(s.lists), "staleLists": len(s.staleLists),
		"parts":           len(s.parts.Users()),
		"clusterPolicies": s.clusterPolicies.Len(), "nodePeers": len(s.clusterPolicies.Nodes()),
		"demands":     len(s.demands),
		"quarantines": len(s.quarantines),
	}
	s.countIndex(sizes)
	s.countPolicies(sizes)
	for _, joined := range s.joined {
		sizes["joined"]++
		sizes["policyIsolations"] += len(joined)
	}
	for _, id := range s.identities() {
		sizes["grants"] += len(id.Own.grants)
		sizes["members"] += len(id.Own.groups)
	}
	for _, sel := range s.index.Selectors() {
		sizes["copiedBy"] += len(sel.Own.copiedBy)
		sizes["listsBy"] += len(sel.Own.lists)
		sizes["lookedUpBy"] += len(sel.Own.lookedUpBy)
		for _, sh := range sel.Own.shared {
			sizes["sharedUsers"] += sh.Users()
			sizes["sharedSets"] += sh.Sets()
		}
	}
	for _, iso := range s.isolations {
		sizes["users"] += len(iso.users)
		for users := range iso.placed.Grants() {
			sizes["isolationGrants"]++
			sizes["grantUsers"] += users
		}
	}
	for _, users := range s.openings.Users() {
		sizes["portChainUsers"] += users
	}
	return sizes
}

// countIndex counts what the index exports; its own tests look for leaks of the rest.
func (s *State) countIndex(sizes map[string]int) {
	sizes["local"], sizes["inhabited"] = len(s.index.Local()), len(s.index.Inhabited())
	sizes["sandboxes"], sizes["selectors"] = len(s.index.Sandboxes()), len(s.index.Selectors())
	for _, ns := range s.index.Namespaces() {
		sizes["namespaces"]++
		sizes["pods"] += len(ns.Pods)
	}
	for _, id := range s.identities() {
		sizes["identities"]++
		sizes["links"] += len(id.Selectors)
		sizes["owned"] += len(id.Local)
	}
	for _, sel := range s.index.Selectors() {
		sizes["matches"] += len(sel.Matches)
	}
}

func (s *State) countPolicies(sizes map[string]int) {
	for p := range s.policies.All() {
		sizes["policies"]++
		if p.Compiled() {
			sizes["compiled"]++
		}
	}
	for range s.policies.Rejections() {
		sizes["rejected"]++
	}
	for ns := range s.index.Namespaces() {
		sizes["shared"] += len(s.policies.Shared(ns))
	}
}

func (s *State) identities() []*identity {
	var all []*identity
	for _, ns := range s.index.Namespaces() {
		for _, id := range ns.Identities {
			all = append(all, id)
		}
	}
	return all
}

// counting is a selector that counts how often it looks at labels.
type counting struct {
	labels.Selector
	looks *int
}

// Matches counts and looks.
func (c counting) Matches(l labels.Labels) bool {
	*c.looks++
	return c.Selector.Matches(l)
}

// CountMatches makes all current selectors and policies count in looks how often they look at labels.
func (s *State) CountMatches(looks *int) {
	for _, sel := range s.index.Selectors() {
		sel.Pods = counting{sel.Pods, looks}
		if sel.Namespaces != nil {
			sel.Namespaces = counting{sel.Namespaces, looks}
		}
	}
	for p := range s.policies.All() {
		p.Pods = counting{p.Pods, looks}
	}
}
