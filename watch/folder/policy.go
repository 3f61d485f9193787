// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"go.yaml.in/yaml/v3"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// policy reads a NetworkPolicy. It is in force as far as it can be read, and what cannot be read narrows it: a rule with a problem
// allows nothing, a requirement of spec.podSelector with a problem is left out, so that the policy selects no fewer pods, and where
// policyTypes or the names of the spec's fields are in doubt it isolates both ways. Types that are absent are the ones that the API
// server would fill in, from all the rules of the text.
func (r *reader) policy(n *yaml.Node, top map[string]entry, meta metadata) *networkingv1.NetworkPolicy {
	r.strict = true
	path := field.NewPath("spec")
	before := len(r.problems)
	r.unknown(top, nil, names("apiVersion", "kind", "metadata", "spec", "status"))
	spec := r.mapping(top["spec"].value, path)
	r.unknown(spec, path, names("podSelector", "policyTypes", "ingress", "egress"))
	if len(top) == 0 || top["spec"].value == nil {
		r.fail(n, path, "is missing")
	}
	inDoubt := len(r.problems) > before

	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: meta.key.Name, Namespace: meta.key.Namespace}}
	np.Spec.PodSelector = r.podSelector(spec["podSelector"].value, path.Child("podSelector"))
	np.Spec.Ingress = decodeList[networkingv1.NetworkPolicyIngressRule](r.decoder, spec["ingress"].value, path.Child("ingress"))
	np.Spec.Egress = decodeList[networkingv1.NetworkPolicyEgressRule](r.decoder, spec["egress"].value, path.Child("egress"))

	types := &np.Spec.PolicyTypes
	ok := decode(r.decoder, spec["policyTypes"].value, path.Child("policyTypes"), types)
	egress := r.spend(spec["egress"].value)
	switch both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}; {
	case !ok, len(*types) == 0 && inDoubt:
		*types = both
	case len(*types) == 0 && (isNull(egress) || egress.Kind == yaml.SequenceNode && len(egress.Content) == 0):
		*types = both[:1]
	case len(*types) == 0:
		*types = both
	}
	return np
}

// podSelector reads the requirements of spec.podSelector that have no problem.
func (r *reader) podSelector(n *yaml.Node, path *field.Path) metav1.LabelSelector {
	var sel metav1.LabelSelector
	entries := r.mapping(n, path)
	r.unknown(entries, path, names("matchLabels", "matchExpressions"))
	at := path.Child("matchLabels")
	for key, e := range r.mapping(entries["matchLabels"].value, at) {
		var value string
		if !decode(r.decoder, e.value, at.Key(plain(key)), &value) {
			continue
		}
		if sel.MatchLabels == nil {
			sel.MatchLabels = make(map[string]string)
		}
		sel.MatchLabels[key] = value
	}
	at = path.Child("matchExpressions")
	sel.MatchExpressions = decodeList[metav1.LabelSelectorRequirement](r.decoder, entries["matchExpressions"].value, at)
	return sel
}

// names returns the set of field names that [reader.unknown] takes.
func names(list ...string) map[string]int {
	set := make(map[string]int, len(list))
	for i, name := range list {
		set[name] = i
	}
	return set
}
