// SPDX-License-Identifier: Apache-2.0

package book

import (
	"bytes"
	"fmt"
	"maps"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Policy is a NetworkPolicy. Most policies select no pod of this node: for them it keeps only what tells that, and the
// text in its shortest form.
type Policy struct {
	Name     types.NamespacedName
	Pods     labels.Selector
	Isolates [2]bool // by Direction
	Err      error   // what does not compile

	text     []byte // of the spec, as protobuf
	mode     spec.Mode
	written  map[string]string // the mode annotation, if there is one
	shared   []string          // see [sharedKeys]
	compiled *[2][]spec.Rule   // by Direction; nil until needed
}

// Compile returns np as a Policy, or old if that says the same; old may be nil, and np is not kept. It fails only if np
// cannot be kept at all; what does not compile is in Err.
func Compile(np *networkingv1.NetworkPolicy, old *Policy) (*Policy, error) {
	name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
	text, err := np.Spec.Marshal()
	if err != nil {
		return nil, fmt.Errorf("NetworkPolicy %s: %w", name, err)
	}
	written := policy.ModeOf(np.Annotations)
	if old != nil && bytes.Equal(old.text, text) && maps.Equal(old.written, written) {
		return old, nil
	}
	compiled, err := spec.Compile(np) // most rules are of no use on this node
	return &Policy{
		Name: name, Pods: compiled.Pods, Isolates: compiled.Isolates, Err: err,
		text: text, mode: compiled.Mode, written: written, shared: sharedKeys(compiled.Rules),
	}, nil
}

// Selects says whether p, which may be nil, selects pods with labels.
func (p *Policy) Selects(l labels.Labels) bool { return p != nil && p.Pods.Matches(l) }

// Source returns the policy as given: its name and whatever matters to its meaning.
func (p *Policy) Source() *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Name.Namespace, Name: p.Name.Name, Annotations: p.written}}
	_ = np.Spec.Unmarshal(p.text) // it was marshalled here
	return np
}

// Rules returns what the policy allows in a direction.
func (p *Policy) Rules(d policy.Direction) []spec.Rule {
	if p.compiled == nil {
		compiled, _ := spec.Compile(p.Source()) // the error is known already
		p.compiled = &compiled.Rules
	}
	return p.compiled[d]
}

// Compiled says whether the policy holds its compiled rules, see [Policy.Rules].
func (p *Policy) Compiled() bool { return p.compiled != nil }

// Shrink drops the compiled rules until they are needed again.
func (p *Policy) Shrink() { p.compiled = nil }
