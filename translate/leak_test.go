// SPDX-License-Identifier: Apache-2.0

package translate

import "k8s.io/apimachinery/pkg/labels"

// Sizes returns how many objects of each kind the state remembers, for the tests that look for leaks.
func (s *State) Sizes() map[string]int {
	sizes := map[string]int{
		"nodePods": len(s.nodePods), "owners": len(s.owners), "rivals": len(s.rivals), "hosts": len(s.hosts),
		"namespaces": len(s.namespaces),
		"selectors":  len(s.selectors), "clusterSelectors": len(s.clusterSelectors),
		"isolations": len(s.isolations), "chains": len(s.chains), "portChains": len(s.openings.Users()),
		"dirtyIdentities": len(s.dirtyIdentities),
		"dirtyIsolations": len(s.dirtyIsolations), "dirtyChains": len(s.dirtyChains), "orphans": len(s.orphans),
		"rejected": len(s.rejected), "quarantines": len(s.quarantines),
	}
	for _, ns := range s.namespaces {
		sizes["pods"] += len(ns.pods)
		sizes["policies"] += len(ns.policies)
		for _, p := range ns.policies {
			sizes["policyIsolations"] += len(p.isolations)
			if p.compiled != nil {
				sizes["compiled"]++
			}
		}
		sizes["identities"] += len(ns.identities)
	}
	for _, id := range s.identities() {
		sizes["identityPods"] += len(id.pods)
		sizes["links"] += len(id.selectors)
		sizes["grants"] += len(id.grants)
		sizes["local"] += len(id.local)
	}
	for _, sel := range s.selectors {
		sizes["matches"] += len(sel.matches)
		sizes["copiedBy"] += len(sel.copiedBy)
		sizes["lookedUpBy"] += len(sel.lookedUpBy)
		sizes["sharedSets"] += len(sel.sets)
	}
	for _, iso := range s.isolations {
		sizes["users"] += len(iso.users)
		sizes["isolationGrants"] += len(iso.grants)
		for _, g := range iso.grants {
			sizes["grantUsers"] += g.users
		}
	}
	for _, users := range s.openings.Users() {
		sizes["portChainUsers"] += users
	}
	return sizes
}

func (s *State) identities() []*identity {
	var all []*identity
	for _, ns := range s.namespaces {
		for _, id := range ns.identities {
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

// CountMatches makes all selectors and policies of the moment count in looks how often they look at labels.
func (s *State) CountMatches(looks *int) {
	for _, sel := range s.selectors {
		sel.Pods = counting{sel.Pods, looks}
		if sel.Namespaces != nil {
			sel.Namespaces = counting{sel.Namespaces, looks}
		}
	}
	for _, ns := range s.namespaces {
		for _, p := range ns.policies {
			p.pods = counting{p.pods, looks}
		}
	}
}
