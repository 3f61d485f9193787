// SPDX-License-Identifier: Apache-2.0

package translate

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// networkPolicy is a NetworkPolicy of the state. Most policies select no pod of this node: of them it keeps what tells
// that, and the text in its shortest form.
type networkPolicy struct {
	name     types.NamespacedName
	text     []byte // of the spec, as protobuf
	pods     labels.Selector
	isolates [2]bool // by Direction
	mode     spec.Mode
	written  map[string]string // the annotation of the mode, if there is one
	err      error             // what does not compile
	shared   []string          // see [sharedKeys]

	isolations map[*isolation]struct{} // that it is part of; nil without one
	compiled   *[2][]spec.Rule         // by Direction; nil if not needed at the moment
}

// source returns the policy as it was given.
func (p *networkPolicy) source() *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.name.Namespace, Name: p.name.Name, Annotations: p.written}}
	_ = np.Spec.Unmarshal(p.text) // it was marshalled here
	return np
}

// rules returns what the policy allows in a direction.
func (p *networkPolicy) rules(d policy.Direction) []spec.Rule {
	if p.compiled == nil {
		compiled, _ := spec.Compile(p.source()) // the error is known
		p.compiled = &compiled.Rules
	}
	return p.compiled[d]
}

// join makes the policy part of an isolation.
func (p *networkPolicy) join(iso *isolation) {
	if p.isolations == nil {
		p.isolations = make(map[*isolation]struct{})
	}
	p.isolations[iso] = struct{}{}
}

// leave ends [networkPolicy.join].
func (p *networkPolicy) leave(iso *isolation) {
	delete(p.isolations, iso)
	if len(p.isolations) == 0 {
		p.isolations, p.compiled = nil, nil
	}
}

// rule is a rule of a policy in an isolation.
type rule struct {
	spec.Rule
	policy   int         // of the isolation's
	resolved []*selector // of its peers, as far as they were looked at
}
