// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// SetNamespaceMode sets the mode of a namespace from its annotations, for policies without a mode of their own. An
// invalid mode is an error; the policies are then enforced.
func (s *State) SetNamespaceMode(name string, annotations map[string]string) error {
	changed, err := s.policies.SetMode(name, annotations)
	if changed {
		s.dirtyLocal(name, func(*identity) bool { return true })
	}
	return err
}

// Audits says whether the policy of that name is only audited.
func (s *State) Audits(name types.NamespacedName) bool {
	p := s.policies.Get(name)
	return p != nil && s.policies.Audits(p)
}

// selecting returns the policies that select the pods of id in a direction, enforced and audited, each sorted.
func (s *State) selecting(id *identity, d policy.Direction) (enforced, audited []types.NamespacedName) {
	return s.policies.Selecting(id.Namespace.Name, id, d)
}

// policiesAnEdit is how many policies are looked at in the time that it takes to edit an element.
const policiesAnEdit = 3

// isolationsOf returns the isolation that the policies of id's namespace imply in one direction, or nil: that of the
// enforced ones or, if there are none, of the audited ones. (Policies are additive: what the enforced ones allow, all
// of them together allow, so beside them audited policies could deny nothing more.)
//
// If audited rules of tier Admin precede them, the isolation of the audited ones is a shadow, which sees what those let
// through. So is one of all policies, if an audited rule may pass on what an enforced one accepts; otherwise the
// enforced policies have allowed whatever gets there.
func (s *State) isolationsOf(id *identity, d policy.Direction) (iso, shadow *isolation) {
	enforced, audited := s.selecting(id, d)
	s.index.Edits += len(s.policies.In(id.Namespace.Name)) / policiesAnEdit
	id.Own.local.setBeside(d, nil)
	rules := s.clusterPolicies.Auditing(d, id.In)
	switch {
	case len(enforced) > 0:
		id.Own.local.setBeside(d, audited)
		iso = s.isolationBy(id, frame.Kind{Direction: d}, enforced)
		if rules.Unaccepts {
			all := slices.Concat(enforced, audited)
			slices.SortFunc(all, func(a, b types.NamespacedName) int { return cmp.Compare(a.Name, b.Name) })
			shadow = s.isolationBy(id, frame.Kind{Direction: d, Audit: true}, all)
		}
	case len(audited) == 0:
	case rules.Of[frame.Admin]:
		shadow = s.isolationBy(id, frame.Kind{Direction: d, Audit: true}, audited)
	default:
		iso = s.isolationBy(id, frame.Kind{Direction: d, Audit: true}, audited)
	}
	return iso, shadow
}
