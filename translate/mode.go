// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// SetNamespaceMode sets the mode of a namespace from its annotations: that of the policies in it that say none. The
// error is a value that is no mode; the policies are enforced then.
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

// selecting returns the policies that select the pods of id in a direction: those that are enforced and those that are
// only audited, sorted.
func (s *State) selecting(id *identity, d policy.Direction) (enforced, audited []types.NamespacedName) {
	return s.policies.Selecting(id.Namespace.Name, &id.Labels, d)
}

// isolationOf returns the isolation that the policies of id's namespace imply in one direction, or nil: of the enforced
// ones, or of the audited ones where there are none. (Policies only add: what enforced ones allow is allowed by all of
// them together, so next to them nothing that is audited could deny more.)
func (s *State) isolationOf(id *identity, d policy.Direction) *isolation {
	enforced, audited := s.selecting(id, d)
	id.Own.audited[d] = nil
	switch {
	case len(enforced) > 0:
		id.Own.audited[d] = audited
		return s.isolationBy(id, frame.Kind{Direction: d}, enforced)
	case len(audited) > 0:
		return s.isolationBy(id, frame.Kind{Direction: d, Audit: true}, audited)
	}
	return nil
}
