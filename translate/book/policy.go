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

// Policy is a NetworkPolicy. Most policies select no pod of this node: of them it keeps what tells that, and the text
// in its shortest form.
type Policy struct {
	Name     types.NamespacedName
	Pods     labels.Selector
	Isolates [2]bool // by Direction
	Err      error   // what does not compile

	text     []byte // of the spec, as protobuf
	mode     spec.Mode
	written  map[string]string // the annotation of the mode, if there is one
	shared   []string          // see [sharedKeys]
	compiled *[2][]spec.Rule   // by Direction; nil if not needed at the moment
}

// Compile returns np as a Policy, or old if it says the same; old may be nil, and np is not kept. The error is of what
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
	compiled, err := spec.Compile(np) // of the rules most are of no use on this node
	return &Policy{
		Name: name, Pods: compiled.Pods, Isolates: compiled.Isolates, Err: err,
		text: text, mode: compiled.Mode, written: written, shared: sharedKeys(compiled.Rules),
	}, nil
}

// Selects says whether pods with labels are the policy's, which may be nil.
func (p *Policy) Selects(l labels.Labels) bool { return p != nil && p.Pods.Matches(l) }

// Source returns the policy as it was given: its name and what matters to its meaning.
func (p *Policy) Source() *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Name.Namespace, Name: p.Name.Name, Annotations: p.written}}
	_ = np.Spec.Unmarshal(p.text) // it was marshalled here
	return np
}

// Rules returns what the policy allows in a direction.
func (p *Policy) Rules(d policy.Direction) []spec.Rule {
	if p.compiled == nil {
		compiled, _ := spec.Compile(p.Source()) // the error is known
		p.compiled = &compiled.Rules
	}
	return p.compiled[d]
}

// Compiled says whether the policy keeps its rules, which [Policy.Rules] made.
func (p *Policy) Compiled() bool { return p.compiled != nil }

// Shrink forgets the rules until they are asked for again.
func (p *Policy) Shrink() { p.compiled = nil }
