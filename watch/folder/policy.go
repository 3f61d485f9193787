// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"encoding/json"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/translate/policy"
)

// policySpec is the spec of a NetworkPolicy; its parts are read one by one.
type policySpec struct {
	PodSelector json.RawMessage `json:"podSelector"`
	PolicyTypes json.RawMessage `json:"policyTypes"`
	Ingress     json.RawMessage `json:"ingress"`
	Egress      json.RawMessage `json:"egress"`
}

// policy reads a NetworkPolicy. It is in force as far as it can be read, and what cannot be read narrows it: a rule
// with a problem allows nothing, a bad requirement of spec.podSelector is left out, so that the policy selects no fewer
// pods, and if policyTypes or the names of spec's fields are in doubt, it isolates both ways. If a part appears twice,
// it isolates all pods of its namespace. Absent policyTypes are what the API server would fill in from all the rules in
// the text.
func (r *reader) policy(text json.RawMessage, top topLevel, meta metadata,
	path *field.Path) *networkingv1.NetworkPolicy {
	before := len(r.problems)
	var known topLevel
	r.strict(text, path, &known)
	var spec policySpec
	r.strict(top.Spec, path.Child("spec"), &spec)
	if top.Spec == nil {
		r.fail(path.Child("spec"), "is missing")
	}
	inDoubt := len(r.problems) > before
	names := duplicates(text)
	twice := len(names) >= maxStrictErrors // which part is meant is unknown
	for _, name := range names {
		if strings.HasPrefix(name, "metadata.") {
			continue // noted already
		}
		r.fail(under(path, name), "appears twice")
		// the other parts check their own fields
		twice = twice || !strings.ContainsAny(strings.TrimPrefix(name, "spec."), ".[")
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: meta.key.Name, Namespace: meta.key.Namespace,
		Annotations: r.mode(meta.Notes, path.Child("metadata", "annotations"))}}
	path = path.Child("spec")
	if !twice {
		np.Spec.PodSelector = r.podSelector(spec.PodSelector, path.Child("podSelector"))
		np.Spec.Ingress = elements[networkingv1.NetworkPolicyIngressRule](r, spec.Ingress,
			path.Child("ingress"), r.whole)
		np.Spec.Egress = elements[networkingv1.NetworkPolicyEgressRule](r, spec.Egress, path.Child("egress"), r.whole)
	}
	types := &np.Spec.PolicyTypes
	ok := r.whole(spec.PolicyTypes, path.Child("policyTypes"), types)
	switch both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}; {
	case !ok, twice, len(*types) == 0 && inDoubt:
		*types = both
	case len(*types) == 0 && isEmpty(spec.Egress):
		*types = both[:1]
	case len(*types) == 0:
		*types = both
	}
	return np
}

// tier reads a ClusterNetworkPolicy. What cannot be read is a problem, and its rule fails closed; outside rules, so do
// all of them.
func (r *reader) tier(text json.RawMessage, path *field.Path) (policy.ClusterPolicy, bool) {
	before := len(r.problems)
	var known topLevel
	r.strict(text, path, &known)
	r.broken = r.broken || len(r.problems) > before
	p, err := policy.ReadClusterPolicy(text)
	if err != nil {
		r.reject(path, "%s", plain(err.Error()))
		return p, false
	}
	for _, u := range p.Unread {
		r.fail(under(path, u.Path), "%s", plain(u.Problem))
		r.broken = r.broken || u.Index < 0
	}
	return p, true
}

// maxStrictErrors is the most errors that the strict decoder returns.
const maxStrictErrors = 100

// isEmpty says whether a list has no elements.
func isEmpty(text json.RawMessage) bool {
	var list []json.RawMessage
	return isNull(text) || json.Unmarshal(text, &list) == nil && len(list) == 0
}

// podSelector reads the valid requirements of spec.podSelector.
func (r *reader) podSelector(text json.RawMessage, path *field.Path) metav1.LabelSelector {
	var sel metav1.LabelSelector
	var parts struct {
		MatchLabels      json.RawMessage `json:"matchLabels"`
		MatchExpressions json.RawMessage `json:"matchExpressions"`
	}
	r.strict(text, path, &parts)
	partsTwice, labelsTwice := duplicates(text), duplicates(parts.MatchLabels)
	for key, value := range r.mapping(parts.MatchLabels, path.Child("matchLabels")) {
		if !slices.Contains(labelsTwice, key) && !slices.Contains(partsTwice, "matchLabels") {
			metav1.AddLabelToSelector(&sel, key, value)
		}
	}
	if slices.Contains(partsTwice, "matchExpressions") {
		return sel
	}
	sel.MatchExpressions = elements[metav1.LabelSelectorRequirement](r, parts.MatchExpressions,
		path.Child("matchExpressions"), r.whole)
	return sel
}
