// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/policy"
)

// selection is the selector of a workload.
type selection struct {
	metav1.LabelSelector
	note string // what an operator should know about it, or ""
}

// identifying are the labels that by convention say what a pod is: all of the first three and, of the others, the first
// that is there.
func identifying() []string {
	return []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component",
		"app", "k8s-app", "name", "run"}
}

// idle are labels that say how a pod was deployed: they come last.
func idle() []string { return []string{"app.kubernetes.io/managed-by", "heritage"} }

// ofKind are labels that the controller of one kind of workload sets: having one says something, its value does not.
func ofKind() []string {
	return []string{"job-name", "pod-template-hash", "statefulset.kubernetes.io/pod-name", "controller-revision-hash"}
}

// volatile says whether a label's value differs between pods of the workload, or will for the next ones. With a version
// in the selector, nothing would isolate the pods of the next release.
func (w *workload) volatile(key string, p *policy.Pod) bool {
	switch key {
	case "app.kubernetes.io/version", "version", "helm.sh/chart", "chart",
		"pod-template-hash", "controller-revision-hash", "pod-template-generation",
		"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
		"batch.kubernetes.io/job-completion-index", "batch.kubernetes.io/controller-uid", "controller-uid":
		return true
	case "batch.kubernetes.io/job-name", "job-name":
		// a CronJob's are new each time, and so is often the name of a Job that a tool deploys
		if w.Kind != "Job" {
			return true
		}
		for other := range p.Labels {
			if !strings.HasSuffix(other, "job-name") && !w.volatile(other, p) {
				return true
			}
		}
	}
	return false
}

// requirement is a condition that all pods of a workload meet.
type requirement struct {
	metav1.LabelSelectorRequirement
	rank    int
	matches labels.Selector
}

// selector returns the selector of a workload: labels that identify it, and as many more as it takes to exclude the
// others of its namespace.
func (r *roster) selector(w *workload) *selection {
	if w.selected != nil {
		return w.selected
	}
	candidates := requirements(w, nil)
	chosen := conventional(candidates)
	others := r.spaces[w.Namespace].others(w, chosen)
	if len(others) > 0 {
		candidates = requirements(w, others)
	}
	for len(others) > 0 {
		best, left := requirement{}, others
		for _, c := range candidates {
			if rest := c.left(others); weigh(rest) < weigh(left) {
				best, left = c, rest
			}
		}
		if best.Key == "" {
			break
		}
		chosen, others = append(chosen, best), left
	}
	if len(chosen) == 0 && len(candidates) > 0 && candidates[0].Operator != metav1.LabelSelectorOpDoesNotExist {
		chosen = candidates[:1]
	}
	w.selected = &selection{LabelSelector: selectorOf(chosen), note: unexact(w, chosen, others)}
	return w.selected
}

// others returns the other workloads, with their pods that meet w's identifying requirements.
func (s *space) others(w *workload, all []requirement) []*workload {
	some := s.all
	for _, r := range all {
		if have := s.labels[r.Key+"="+r.Values[0]]; len(have) < len(some) {
			some = have
		}
	}
	others := slices.DeleteFunc(slices.Clone(some), func(o *workload) bool { return o == w })
	for _, r := range all {
		others = r.left(others)
	}
	return others
}

// weigh counts pods.
func weigh(all []*workload) int {
	n := 0
	for _, w := range all {
		for _, set := range w.sets {
			n += set.pods
		}
	}
	return n
}

// left returns the workloads with those of their pods that meet a requirement.
func (r requirement) left(all []*workload) []*workload {
	var left []*workload
	for _, w := range all {
		rest := &workload{Workload: w.Workload, also: w.also}
		for _, set := range w.sets {
			if r.matches.Matches(set.labels) {
				rest.sets = append(rest.sets, set)
			}
		}
		if len(rest.sets) > 0 {
			left = append(left, rest)
		}
	}
	return left
}

// requirements returns what the pods of a workload have in common, the most telling first.
func requirements(w *workload, others []*workload) []requirement {
	values := func(all []*workload) map[string]map[string]bool {
		by := make(map[string]map[string]bool)
		for _, o := range all {
			for _, set := range o.sets {
				for k, v := range set.labels {
					if by[k] == nil {
						by[k] = make(map[string]bool)
					}
					by[k][v] = true
				}
			}
		}
		return by
	}
	own, foreign := values([]*workload{w}), values(others)
	var all []requirement
	keys := slices.Sorted(maps.Keys(own))
	for k := range maps.Keys(foreign) {
		if own[k] == nil {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		r := requirement{LabelSelectorRequirement: metav1.LabelSelectorRequirement{Key: k}, rank: rankOf(k)}
		have := 0
		for _, set := range w.sets {
			if _, has := set.labels[k]; has {
				have++
			}
		}
		switch named := slices.Contains(ofKind(), k); {
		case named && 0 < have && have < len(w.sets):
			continue
		case named && own[k][""]: // the value does not count
			r.Operator, r.rank = metav1.LabelSelectorOpExists, r.rank+400
		case have == 0:
			r.Operator, r.rank = metav1.LabelSelectorOpDoesNotExist, r.rank+300
		case have < len(w.sets):
			r.Operator, r.rank = metav1.LabelSelectorOpNotIn, r.rank+200
			maps.DeleteFunc(foreign[k], func(v string, _ bool) bool { return own[k][v] })
			r.Values = slices.Sorted(maps.Keys(foreign[k]))
		default:
			r.Operator, r.Values = metav1.LabelSelectorOpIn, slices.Sorted(maps.Keys(own[k]))
		}
		if len(r.Values) > 1 {
			r.rank += 100
		}
		alone := selectorOf([]requirement{r})
		var err error
		if r.matches, err = metav1.LabelSelectorAsSelector(&alone); err == nil { // it has values, and they are valid
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b requirement) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Key, b.Key))
	})
	return all
}

// rankOf ranks labels by how well they say what a pod is.
func rankOf(key string) int {
	if i := slices.Index(identifying(), key); i >= 0 {
		return i
	}
	return 50 + slices.Index(idle(), key) // -1 for most
}

// conventional returns the labels that identify a workload by convention.
func conventional(candidates []requirement) []requirement {
	const recommended = 3
	var chosen []requirement
	for _, r := range candidates {
		single := r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1
		if single && (r.rank < recommended || r.rank < len(identifying()) && len(chosen) == 0) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// selectorOf writes requirements as a selector.
func selectorOf(all []requirement) metav1.LabelSelector {
	var s metav1.LabelSelector
	for _, r := range all {
		if r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1 {
			if s.MatchLabels == nil {
				s.MatchLabels = make(map[string]string)
			}
			s.MatchLabels[r.Key] = r.Values[0]
		} else {
			s.MatchExpressions = append(s.MatchExpressions, r.LabelSelectorRequirement)
		}
	}
	return s
}

// unexact says what a selector matches that it should not, or may one day.
func unexact(w *workload, chosen []requirement, others []*workload) string {
	has := func(r requirement) bool { return r.Operator == metav1.LabelSelectorOpIn }
	switch {
	case len(others) > 0:
		var names []string
		for _, o := range others {
			names = append(names, o.names()...)
		}
		slices.Sort(names)
		return fmt.Sprintf("%s: its selector also matches pods of %s: their labels do not tell them apart", w,
			few(names))
	case len(w.also) > 0:
		return fmt.Sprintf("%s: one selector matches all of them: their labels do not tell them apart", w)
	case !slices.ContainsFunc(chosen, has):
		return fmt.Sprintf("%s: no label identifies it, so its selector may match pods to come: give it one", w)
	}
	return ""
}
