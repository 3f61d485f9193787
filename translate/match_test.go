// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
)

// TestMatchAllocatesNothing: matching a pod of a new kind against two thousand selectors takes no more allocations than
// against one.
func TestMatchAllocatesNothing(t *testing.T) {
	allocations := func(selectors int) float64 {
		s := limited(content.Limits{}, 1)
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name = "ns", "np"
		for i := range selectors {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
				From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{},
					PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint(i)}}}},
			})
		}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
		s.Complete()
		name := types.NamespacedName{Namespace: "ns", Name: "new"}
		p := policy.Pod{NamespacedName: name, Labels: map[string]string{"app": "new"}, Running: true,
			IPs: []netip.Addr{netip.MustParseAddr("10.0.3.1")}}
		return testing.AllocsPerRun(20, func() {
			s.SetPod(p)
			s.DeletePod(name)
		})
	}
	if one, many := allocations(1), allocations(2000); many > one+20 {
		t.Errorf("%v allocations with 2000 selectors, %v with one", many, one)
	}
}

// TestPolicyOfManyPods: a policy that selects no pod of the node costs the same whether its namespace has ten pods on
// other nodes, each of its own kind, or 20,000.
func TestPolicyOfManyPods(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func(pods int) time.Duration {
		s := limited(content.Limits{}, 1)
		for i := range pods {
			s.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("other-", i)}, Node: "other",
				Labels: map[string]string{"pod": fmt.Sprint(i)}, Running: true,
				IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})},
			})
		}
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"app": "none"}
		least := time.Hour
		for range 20 {
			start := cpu.Thread()
			if err := s.SetPolicy(np); err != nil {
				t.Fatal(err)
			}
			s.DeletePolicy(types.NamespacedName{Namespace: "ns", Name: "new"})
			least = min(least, cpu.Thread()-start)
		}
		return least
	}
	if few, many := used(10), used(20_000); many > 8*few {
		t.Errorf("%v among 20,000 pods, %v among 10", many, few)
	} else {
		t.Logf("%v among 20,000 pods, %v among 10", many, few)
	}
}
