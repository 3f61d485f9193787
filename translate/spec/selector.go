// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// compileSelector returns a selector of the valid requirements, and errors for the others.
func compileSelector(sel *metav1.LabelSelector, path *field.Path) (labels.Selector, field.ErrorList) {
	all := make([]labels.Requirement, 0, len(sel.MatchLabels)+len(sel.MatchExpressions))
	var lists []list
	var errs field.ErrorList
	add := func(path *field.Path, key string, op selection.Operator, values []string) {
		slices.Sort(values)
		r, err := labels.NewRequirement(key, op, values, field.WithPath(path))
		if err != nil {
			errs = append(errs, requirementErrors(path, key, err)...)
			return
		}
		if len(values) > maxSearched {
			lists = append(lists, list{key, op == selection.In, values})
		}
		all = append(all, *r)
	}
	for _, key := range slices.Sorted(maps.Keys(sel.MatchLabels)) {
		add(path.Child("matchLabels"), key, selection.Equals, []string{sel.MatchLabels[key]})
	}
	ops := map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	for i, e := range sel.MatchExpressions {
		path := path.Child("matchExpressions").Index(i)
		op, known := ops[e.Operator]
		if !known {
			errs = append(errs, field.Invalid(path.Child("operator"), e.Operator, "not a valid selector operator"))
			continue
		}
		add(path, e.Key, op, slices.Clone(e.Values))
	}
	selector := labels.NewSelector()
	if len(all) > 0 {
		selector = selector.Add(all...)
	}
	if len(lists) > 0 {
		short := slices.DeleteFunc(all, func(r labels.Requirement) bool {
			return len(r.ValuesUnsorted()) > maxSearched
		})
		selector = long{selector, labels.NewSelector().Add(short...), lists}
	}
	return selector, errs
}

// maxSearched is how many values of a requirement are left to package labels, which compares each of them.
const maxSearched = 16

// long is a selector with long lists of values: an object of the API has room for a hundred thousand.
type long struct {
	labels.Selector
	short labels.Selector // the other requirements
	lists []list
}

// list is a requirement that the value of a label is one of many, or none of them.
type list struct {
	key    string
	in     bool
	values []string // sorted
}

// Matches says whether the selector matches labels.
func (s long) Matches(l labels.Labels) bool {
	return s.short.Matches(l) && !slices.ContainsFunc(s.lists, func(r list) bool {
		value, exists := l.Lookup(r.key)
		_, listed := slices.BinarySearch(r.values, value)
		return r.in != (exists && listed)
	})
}
