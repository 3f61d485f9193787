// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// requirement is one condition of a label selector.
type requirement struct {
	key    string
	op     metav1.LabelSelectorOperator
	values []string
}

// requirementsOf returns the conditions of a selector, all of which must hold.
func requirementsOf(s *metav1.LabelSelector) []requirement {
	var all []requirement
	for k, v := range s.MatchLabels {
		all = append(all, requirement{k, metav1.LabelSelectorOpIn, []string{v}})
	}
	for _, e := range s.MatchExpressions {
		all = append(all, requirement{e.Key, e.Operator, e.Values})
	}
	return all
}

// holds says whether labels meet the condition. "NotIn" and "DoesNotExist" hold where the key is absent.
func (r requirement) holds(labels map[string]string) bool {
	value, has := labels[r.key]
	switch r.op {
	case metav1.LabelSelectorOpIn:
		return has && slices.Contains(r.values, value)
	case metav1.LabelSelectorOpNotIn:
		return !has || !slices.Contains(r.values, value)
	case metav1.LabelSelectorOpExists:
		return has
	}
	return !has
}

// fault returns what is invalid in the condition, or "". "If the operator is In or NotIn, the values array must be
// non-empty. If the operator is Exists or DoesNotExist, the values array must be empty."
func (r requirement) fault() string {
	if wrong := validation.IsQualifiedName(r.key); len(wrong) > 0 {
		return fmt.Sprintf("key %q: %s", r.key, wrong[0])
	}
	for _, v := range r.values {
		if wrong := validation.IsValidLabelValue(v); len(wrong) > 0 {
			return fmt.Sprintf("value %q: %s", v, wrong[0])
		}
	}
	switch r.op {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
		if len(r.values) == 0 {
			return string(r.op) + " without values"
		}
	case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		if len(r.values) > 0 {
			return string(r.op) + " with values"
		}
	default:
		return fmt.Sprintf("unknown operator %q", r.op)
	}
	return ""
}

// selectorMatches says whether a valid selector matches labels. "An empty label selector matches all objects."
func selectorMatches(s *metav1.LabelSelector, labels map[string]string) bool {
	return !slices.ContainsFunc(requirementsOf(s), func(r requirement) bool { return !r.holds(labels) })
}

// selectsAtLeast is selectorMatches for a selector that may be invalid: only its valid conditions count, so that it
// selects no fewer than it may mean.
func selectsAtLeast(s *metav1.LabelSelector, labels map[string]string) bool {
	return !slices.ContainsFunc(requirementsOf(s), func(r requirement) bool {
		return !r.holds(labels) && r.fault() == ""
	})
}

// Selects says whether a policy selects a pod of its namespace that has the labels.
func Selects(np *networkingv1.NetworkPolicy, labels map[string]string) bool {
	return selectsAtLeast(&np.Spec.PodSelector, labels)
}

// AtLeast returns the valid part of a selector, by which a policy with an invalid selector selects.
func AtLeast(s *metav1.LabelSelector) *metav1.LabelSelector {
	part := new(metav1.LabelSelector)
	for _, r := range requirementsOf(s) {
		if r.fault() == "" {
			part.MatchExpressions = append(part.MatchExpressions,
				metav1.LabelSelectorRequirement{Key: r.key, Operator: r.op, Values: r.values})
		}
	}
	return part
}

// selectorFault returns what is invalid in the selector at path, which may be nil, or "".
func selectorFault(path string, s *metav1.LabelSelector) string {
	if s == nil {
		return ""
	}
	all := requirementsOf(s)
	// deterministic if there are several faults
	slices.SortStableFunc(all, func(a, b requirement) int { return strings.Compare(a.key, b.key) })
	for _, r := range all {
		if fault := r.fault(); fault != "" {
			return path + ": " + fault
		}
	}
	return ""
}

// labelText writes labels as kubectl does.
func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return "<none>"
	}
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, k+"="+labels[k])
	}
	return strings.Join(pairs, ",")
}
