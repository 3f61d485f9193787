// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

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
		if len(values) > maxCompared {
			l := newList(key, op, values)
			lists, r = append(lists, l), l.weaker()
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
		selector = long{selector, lists}
	}
	return selector, errs
}

// maxCompared is how many values of a requirement are left to package labels, which compares each of them.
const maxCompared = 64

// long is a selector with long lists of values: an object of the API has room for a hundred thousand. Its Requirements
// hold for all that it matches, and perhaps for more.
type long struct {
	labels.Selector // the other requirements, and one for each list that follows from it
	lists           []list
}

// list is a requirement that the value of a label is one of many, or none of them, in little more than their bytes.
type list struct {
	key    string
	op     selection.Operator // In or NotIn
	values string             // sorted, each with a comma after it, which none of them has
	text   string             // with a hash for the values
}

func newList(key string, op selection.Operator, sorted []string) list {
	values := strings.Join(append(sorted, ""), ",")
	text := fmt.Sprintf("%s %s (%d values, %x)", key, op, len(sorted), sha256.Sum256([]byte(values)))
	return list{key, op, values, text}
}

// weaker returns a short requirement that holds wherever the list's does.
func (l list) weaker() *labels.Requirement {
	op, values := selection.Exists, []string(nil)
	if l.op == selection.NotIn {
		first, _, _ := strings.Cut(l.values, ",")
		op, values = selection.NotIn, []string{first}
	}
	r, _ := labels.NewRequirement(l.key, op, values) // key and value are known to be valid
	return r
}

// has says whether the value is listed.
func (l list) has(value string) bool {
	for rest := l.values; rest != ""; {
		middle := len(rest) / 2
		begin := strings.LastIndexByte(rest[:middle], ',') + 1
		end := middle + strings.IndexByte(rest[middle:], ',')
		switch order := strings.Compare(value, rest[begin:end]); {
		case order == 0:
			return true
		case order < 0:
			rest = rest[:begin]
		default:
			rest = rest[end+1:]
		}
	}
	return false
}

// Matches says whether the selector matches labels.
func (s long) Matches(l labels.Labels) bool {
	return s.Selector.Matches(l) && !slices.ContainsFunc(s.lists, func(r list) bool {
		value, exists := l.Lookup(r.key)
		return (r.op == selection.In) != (exists && r.has(value))
	})
}

// String is equal only for equal selectors.
func (s long) String() string {
	all := []string{s.Selector.String()}
	for _, l := range s.lists {
		all = append(all, l.text)
	}
	return strings.Join(all, ",")
}
