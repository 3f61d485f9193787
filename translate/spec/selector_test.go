// SPDX-License-Identifier: Apache-2.0

package spec_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/spec"
)

// listed returns the selector of pods with one of n values of app, or with none of them, that are also of a tier.
func listed(t *testing.T, op metav1.LabelSelectorOperator, n int) labels.Selector {
	t.Helper()
	r := metav1.LabelSelectorRequirement{Key: "app", Operator: op}
	for i := range n {
		r.Values = append(r.Values, fmt.Sprint("v", n-i))
	}
	np := &networkingv1.NetworkPolicy{}
	np.Spec.PodSelector = metav1.LabelSelector{
		MatchLabels: map[string]string{"tier": "a"}, MatchExpressions: []metav1.LabelSelectorRequirement{r},
	}
	p, err := spec.Compile(np)
	if err != nil {
		t.Fatal(err)
	}
	return p.Pods
}

// TestManyValues: an object of the API has room for 150,000 values of a label, which are not compared one by one with
// those of each pod.
func TestManyValues(t *testing.T) {
	for _, op := range []metav1.LabelSelectorOperator{metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn} {
		few, many := listed(t, op, 10), listed(t, op, 50_000)
		in := op == metav1.LabelSelectorOpIn
		for want, sets := range map[bool][]labels.Set{
			in:  {{"app": "v1", "tier": "a"}, {"app": "v50000", "tier": "a"}},
			!in: {{"app": "v0", "tier": "a"}, {"app": "v50001", "tier": "a"}, {"app": "", "tier": "a"}, {"tier": "a"}},
		} {
			for _, set := range sets {
				if many.Matches(set) != want {
					t.Errorf("%s: the selector matches %v: %t", op, set, !want)
				}
			}
		}
		if set := (labels.Set{"app": map[bool]string{true: "v1", false: "v0"}[in]}); many.Matches(set) {
			t.Errorf("%s: the selector matches %v, of no tier", op, set)
		}
		took := func(s labels.Selector) time.Duration {
			set, begin := labels.Set{"app": "none", "tier": "a"}, time.Now()
			for range 2000 {
				s.Matches(set)
			}
			return time.Since(begin)
		}
		if a, b := took(few), took(many); b > 100*a {
			t.Errorf("%s: 10 values take %v, and 50,000 take %v", op, a, b)
		}
	}
}

// TestManyRequirements: an object has room for 90,000 of them. A selector of half of them would take half the memory.
func TestManyRequirements(t *testing.T) {
	const n, most = 10_000, 2000 // bytes for each
	np := &networkingv1.NetworkPolicy{}
	np.Spec.PodSelector.MatchLabels = make(map[string]string)
	for i := range n {
		np.Spec.PodSelector.MatchLabels[fmt.Sprint("key-", i)] = "v"
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := spec.Compile(np); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > most*n {
		t.Errorf("%d requirements take %d bytes", n, took)
	}
}

// TestListOfValues: whatever is listed, a selector with a long list matches what package labels says, and what its
// requirements say of it holds for all that it matches.
func TestListOfValues(t *testing.T) {
	for _, n := range []int{6, 64, 65, 66, 129, 500} {
		for _, op := range []metav1.LabelSelectorOperator{metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn} {
			values := []string{"", "a", "a", "a-a", "a.a", "A"}
			for i := range n - len(values) {
				values = append(values, fmt.Sprint("v", i*i))
			}
			text := metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: op, Values: values}}}
			np := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PodSelector: text}}
			p, err := spec.Compile(np)
			if err != nil {
				t.Fatal(err)
			}
			want, err := metav1.LabelSelectorAsSelector(&text)
			if err != nil {
				t.Fatal(err)
			}
			requirements, _ := p.Pods.Requirements()
			weaker := labels.NewSelector().Add(requirements...)
			sets := []labels.Set{{}, {"app": "b"}, {"app": "a-"}, {"app": "v"}, {"app": "v2"}, {"app": "z"}}
			for _, v := range values {
				sets = append(sets, labels.Set{"app": v})
			}
			for _, set := range sets {
				matches := p.Pods.Matches(set)
				if matches != want.Matches(set) || matches && !weaker.Matches(set) || p.Pods.Empty() {
					t.Errorf("%s %d values: the selector matches %q: %t", op, n, set, matches)
				}
			}
		}
	}
}

// TestManyValuesInMemory: many values take little more than their bytes, and the text of the selector next to nothing.
func TestManyValuesInMemory(t *testing.T) {
	const n, most = 100_000, 12 // bytes for each
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	s := listed(t, metav1.LabelSelectorOpNotIn, n)
	if after := live(); after > before+most*n {
		t.Errorf("%d values take %d bytes", n, after-before)
	}
	if text := s.String(); len(text) > 200 {
		t.Errorf("%d values are %d bytes of text", n, len(text))
	}
	same, others := listed(t, metav1.LabelSelectorOpNotIn, n), listed(t, metav1.LabelSelectorOpNotIn, n+1)
	in := listed(t, metav1.LabelSelectorOpIn, n)
	if s.String() != same.String() || s.String() == others.String() || s.String() == in.String() {
		t.Errorf("equal selectors have texts %s and %s; others %s and %s", s, same, others, in)
	}
}
