// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// namespaceMode is the mode of the policies of a namespace that say none.
type namespaceMode struct {
	spec.Mode
	written map[string]string // the annotation
	err     error             // it is no mode
}

// SetNamespaceMode sets the mode of a namespace from its annotations: that of the policies in it that say none. The
// error is a value that is no mode; the policies are enforced then.
func (s *State) SetNamespaceMode(name string, annotations map[string]string) error {
	written := policy.ModeOf(annotations)
	if maps.Equal(s.modes[name].written, written) {
		return s.modes[name].err
	}
	mode, bad := spec.ModeOf(written)
	next := namespaceMode{mode, written, nil}
	if bad != nil {
		next.err = fmt.Errorf("namespace %s: %w", name, bad)
	}
	if s.modes[name] = next; written == nil {
		delete(s.modes, name)
	}
	s.troubleVersion++
	for id := range s.index.Identities(name) {
		if len(id.Local) > 0 {
			s.dirtyIdentities[id] = struct{}{}
		}
	}
	return next.err
}

// misreadModes yields a trouble for each namespace whose mode is none, of the policies that it is for.
func (s *State) misreadModes(yield func(Trouble) bool) bool {
	for namespace, m := range s.modes {
		var names []types.NamespacedName
		for _, p := range s.policies[namespace] {
			if p.mode == spec.Inherited && m.err != nil {
				names = append(names, p.name)
			}
		}
		slices.SortFunc(names, byName)
		if len(names) > 0 && !yield(Trouble{Rejected, names, m.err.Error()}) {
			return false
		}
	}
	return true
}

func byName(a, b types.NamespacedName) int { return cmp.Compare(a.Name, b.Name) }

// audits says whether a policy is only audited.
func (s *State) audits(p *networkPolicy) bool {
	if p.mode == spec.Inherited {
		return s.modes[p.name.Namespace].Mode == spec.Audited
	}
	return p.mode == spec.Audited
}

// Audits says whether the policy of that name is only audited.
func (s *State) Audits(name types.NamespacedName) bool {
	p := s.policy(name)
	return p != nil && s.audits(p)
}

// selecting returns the policies that select the pods of id in a direction: those that are enforced and those that are
// only audited, sorted.
func (s *State) selecting(id *identity, d policy.Direction) (enforced, audited []types.NamespacedName) {
	for _, p := range s.policies[id.Namespace.Name] {
		switch {
		case !p.isolates[d] || !p.pods.Matches(&id.Labels):
		case s.audits(p):
			audited = append(audited, p.name)
		default:
			enforced = append(enforced, p.name)
		}
	}
	slices.SortFunc(enforced, byName)
	slices.SortFunc(audited, byName)
	return enforced, audited
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
