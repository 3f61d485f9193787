// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// TestPolicyReport: a policy is in force when the kernel has it as written, for the pods that it selects; otherwise the
// report says why not.
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

// TestClusterPolicyReport: the same for a ClusterNetworkPolicy and its subjects; equal priorities, and rules that are
// checked one after the other, are reported, too.
func TestClusterPolicyReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := tier.DefaultBounds()
		bounds.Elements = 0
		l := NewLoop(translate.New("node", translate.Options{TierBounds: bounds}), LoopConfig{
			Kernel: kernelFunc(nil), Log: slog.New(slog.DiscardHandler), Node: "node", Source: "test",
		})
		go l.Run(t.Context())
		expect := func(name, reason string, notes []string, pods ...string) {
			t.Helper()
			synctest.Wait()
			r := l.PolicyReport(types.NamespacedName{Name: name})
			if r.InForce != (reason == "") || !strings.Contains(r.Reason, reason) || !slices.Equal(r.Pods, pods) ||
				!slices.Equal(r.Notes, notes) {
				t.Errorf("%s: %+v, want %q for %q, %q", name, r, reason, pods, notes)
			}
		}
		set := func(p policy.ClusterPolicy) { l.Update(func(o Objects) { o.SetClusterPolicy(p) }) }
		l.Update(func(o Objects) { o.SetNamespace("ns", nil) })
		setPodAt(l, "a", "10.0.0.1")
		set(clusterPolicy(t, "guard", ""))
		l.Synced()
		sequential := "sequential: " + SequentialText
		expect("guard", "", []string{sequential}, "ns/a")
		expect("gard", "knows no ClusterNetworkPolicy gard (did you mean guard?)", nil)
		tie := []string{"equal priority: bad, guard: evaluated in this order, by name", sequential}
		set(clusterPolicy(t, "bad", `, "except": []`))
		expect("bad", "rejected: spec.ingress[0].except", tie, "ns/a")
		expect("guard", "", tie, "ns/a")
		l.Update(func(o Objects) { o.DeleteClusterPolicy("bad") })
		audited := clusterPolicy(t, "guard", "")
		audited.Annotations = map[string]string{policy.ModeAnnotation: "audit"}
		set(audited)
		expect("guard", "it is only audited", []string{sequential}, "ns/a")
	})
}
