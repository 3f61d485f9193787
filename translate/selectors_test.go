// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
)

// emptySelectors is a node with pods that each have a policy, whose rules have distinct selectors that match nothing.
func emptySelectors(t *testing.T, limits content.Limits, pods, selectors int) *translate.State {
	t.Helper()
	s := translate.New(node, translate.Options{Limits: limits})
	s.SetNamespace("ns", nil)
	for i := range pods {
		name := types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("pod-", i)}
		s.SetPod(policy.Pod{NamespacedName: name, Node: node, Labels: map[string]string{"pod": name.Name},
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}, Running: true})
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name.Name}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"pod": name.Name}
		for j := range selectors {
			peer := metav1.LabelSelector{MatchLabels: map[string]string{"none": fmt.Sprintf("%d-%d", i, j)}}
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
				From: []networkingv1.NetworkPolicyPeer{{PodSelector: &peer}}})
		}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestSelectorsThatMatchNothing: the memory of a namespace's selectors is bounded even if they match nothing: each
// counts as the elements that take as much, and what exceeds the namespace's limit is named.
func TestSelectorsThatMatchNothing(t *testing.T) {
	const pods, selectors = 40, 500
	const elementSize = 190 // bytes of the heap: docs/limits.md
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	limits := content.DefaultLimits()
	all := emptySelectors(t, limits, pods, selectors)
	before := heap()
	all.Complete().Take()
	each := (heap() - before) / (pods * selectors)
	if over := slices.Collect(all.Troubles()); len(over) > 0 || all.Sizes()["selectors"] != pods*selectors {
		t.Errorf("%d selectors, %v", all.Sizes()["selectors"], over)
	}
	t.Logf("%d bytes for a selector", each)
	if each > limits.SelectorCost*elementSize {
		t.Errorf("a selector takes %d bytes, those of more than %d elements", each, limits.SelectorCost)
	}

	const fit = 12
	limits.Namespace = fit * selectors * limits.SelectorCost
	s := emptySelectors(t, limits, pods, selectors)
	s.Complete().Take()
	if n := s.Sizes()["selectors"]; n > fit*selectors+2*pods {
		t.Errorf("%d selectors, want no more than %d, and a few of each policy over the limit", n, fit*selectors)
	}
	over := 0
	for trouble := range s.Troubles() {
		if trouble.Kind == book.OverLimit {
			over++
		}
	}
	if over != pods-fit {
		t.Errorf("%d policies are over the limit, want %d", over, pods-fit)
	}
}
