// SPDX-License-Identifier: Apache-2.0

package book

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Policies are the NetworkPolicies of a cluster, and the modes of its namespaces.
type Policies struct {
	Version uint64 // changes whenever the result of [Policies.Rejections] does

	all      map[string]map[string]*Policy // by namespace and name
	modes    map[string]mode               // of namespaces with a mode
	shared   map[string][]string           // keys of selectors, by namespace: see [maxShared]
	rejected map[*Policy]struct{}          // policies that do not compile in full
}

// mode is the mode of a namespace's policies that have none of their own.
type mode struct {
	spec.Mode
	written map[string]string // the annotation
	err     error             // not a valid mode
}

// NewPolicies returns no policies.
func NewPolicies() *Policies {
	return &Policies{
		all: make(map[string]map[string]*Policy), modes: make(map[string]mode),
		shared: make(map[string][]string), rejected: make(map[*Policy]struct{}),
	}
}

// Get returns the policy of that name, or nil.
func (b *Policies) Get(name types.NamespacedName) *Policy { return b.all[name.Namespace][name.Name] }

// In returns the policies of a namespace by name; the caller must not change the map.
func (b *Policies) In(namespace string) map[string]*Policy { return b.all[namespace] }

// All yields all policies.
func (b *Policies) All() iter.Seq[*Policy] {
	return func(yield func(*Policy) bool) {
		for _, in := range b.all {
			for _, p := range in {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// Put replaces the policy of that name by p, or deletes it if p is nil, and returns the old one. It says whether the
// shared selectors of the namespace changed, so that its isolations must be rebuilt.
func (b *Policies) Put(name types.NamespacedName, p *Policy) (old *Policy, reshared bool) {
	in := b.all[name.Namespace]
	old = in[name.Name]
	if old != nil && old.Err != nil || p != nil && p.Err != nil || b.modes[name.Namespace].err != nil {
		b.Version++
	}
	delete(b.rejected, old)
	delete(in, name.Name)
	if p != nil {
		if in == nil {
			in = make(map[string]*Policy)
			b.all[name.Namespace] = in
		}
		in[name.Name] = p
		if p.Err != nil {
			b.rejected[p] = struct{}{}
		}
	}
	if len(in) == 0 {
		delete(b.all, name.Namespace)
	}
	return old, b.reshare(name.Namespace, old, p)
}

// SetMode sets the mode of a namespace from its annotations, and says whether that changed it. An invalid mode is an
// error.
func (b *Policies) SetMode(namespace string, annotations map[string]string) (changed bool, err error) {
	written := policy.ModeOf(annotations)
	if maps.Equal(b.modes[namespace].written, written) {
		return false, b.modes[namespace].err
	}
	m, bad := spec.ModeOf(written)
	next := mode{m, written, nil}
	if bad != nil {
		next.err = fmt.Errorf("namespace %s: %w", namespace, bad)
	}
	b.modes[namespace] = next
	if written == nil {
		delete(b.modes, namespace)
	}
	b.Version++
	return true, next.err
}

// WrittenMode returns the mode annotation of a namespace, or nil.
func (b *Policies) WrittenMode(namespace string) map[string]string { return b.modes[namespace].written }

// WrittenModes yields them by namespace.
func (b *Policies) WrittenModes() iter.Seq2[string, map[string]string] {
	return func(yield func(string, map[string]string) bool) {
		for namespace, m := range b.modes {
			if !yield(namespace, m.written) {
				return
			}
		}
	}
}

// Audits says whether a policy is only audited.
func (b *Policies) Audits(p *Policy) bool {
	if p.mode == spec.Inherited {
		return b.modes[p.Name.Namespace].Mode == spec.Audited
	}
	return p.mode == spec.Audited
}

// Selecting returns the policies of a namespace that select pods with labels in a direction: those that are enforced
// and those that are only audited, sorted.
func (b *Policies) Selecting(namespace string, l labels.Labels, d policy.Direction) (enforced,
	audited []types.NamespacedName) {
	for _, p := range b.all[namespace] {
		switch {
		case !p.Isolates[d] || !p.Pods.Matches(l):
		case b.Audits(p):
			audited = append(audited, p.Name)
		default:
			enforced = append(enforced, p.Name)
		}
	}
	slices.SortFunc(enforced, byName)
	slices.SortFunc(audited, byName)
	return enforced, audited
}

func byName(a, b types.NamespacedName) int { return cmp.Compare(a.Name, b.Name) }

// Rejections yields what does not compile in full: each such policy, and for an invalid mode the policies that it
// concerns.
func (b *Policies) Rejections() iter.Seq[Trouble] {
	return func(yield func(Trouble) bool) {
		for p := range b.rejected {
			if !yield(Trouble{Rejected, []types.NamespacedName{p.Name}, reason(p.Err)}) {
				return
			}
		}
		for namespace, m := range b.modes {
			var names []types.NamespacedName
			for _, p := range b.all[namespace] {
				if p.mode == spec.Inherited && m.err != nil {
					names = append(names, p.Name)
				}
			}
			slices.SortFunc(names, byName)
			if len(names) > 0 && !yield(Trouble{Rejected, names, m.err.Error()}) {
				return
			}
		}
	}
}

// reason returns what is wrong with a policy, without its name.
func reason(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return err.Error()
}
