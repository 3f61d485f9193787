// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
)

// TestPolicyReport: a policy is in force when the kernel has it as it is written, for the pods that it selects, and
// else it is said why it is not.
func TestPolicyReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		l, _ := newTestLoop(t, kernelFunc(func(context.Context, *nft.Transaction) error {
			if fails.Load() {
				return errors.New("no memory")
			}
			return nil
		}))
		expect := func(name, reason string, pods ...string) {
			t.Helper()
			synctest.Wait()
			r := l.PolicyReport(types.NamespacedName{Namespace: "ns", Name: name})
			if r.InForce != (reason == "") || !strings.Contains(r.Reason, reason) || !slices.Equal(r.Pods, pods) {
				t.Errorf("%s: %+v, want %q for %q", name, r, reason, pods)
			}
		}
		setPodAt(l, "a", "10.0.0.1")
		setPodAt(l, "b", "10.0.0.2")
		denyAll(l, "deny")
		expect("deny", "waiting for the source")
		l.Synced()
		expect("deny", "", "ns/a", "ns/b")
		expect("dney", "knows no NetworkPolicy ns/dney (did you mean ns/deny?)")
		l.Update(func(o Objects) {
			np := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bad"}}
			np.Spec.PodSelector.MatchLabels = map[string]string{"app": "none"}
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
				{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/33"}},
			}}}
			o.SetPolicy(&np)
		})
		expect("bad", "rejected: spec.ingress[0].from[0].ipBlock.cidr")
		fails.Store(true)
		setPodAt(l, "c", "10.0.0.3")
		expect("deny", "the last transaction failed: no memory", "ns/a", "ns/b", "ns/c")
	})
}
