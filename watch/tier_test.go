// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// clusterPolicy returns a policy of tier Admin whose rule denies all pods, with one extra field.
func clusterPolicy(t *testing.T, name string, unknown string) policy.ClusterPolicy {
	t.Helper()
	p, err := policy.ReadClusterPolicy(fmt.Appendf(nil, `{"metadata": {"name": %q, "uid": "u"}, "spec": {
		"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
		"ingress": [{"action": "Deny", "from": [{"namespaces": {}}]%s}]}}`, name, unknown))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTierReport: the report counts ClusterNetworkPolicies, and names those of equal priority, and what does not
// compile.
func TestTierReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newTestLoop(t, kernelFunc(nil))
		l.Update(func(o Objects) {
			o.SetNamespace("ns", nil)
			o.SetClusterPolicy(clusterPolicy(t, "b", ""))
			o.SetClusterPolicy(clusterPolicy(t, "a", `, "except": []`))
		})
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		synctest.Wait()
		r := l.Report().Policies
		want := ClusterPoliciesReport{Total: 2, InEffect: 2, Ties: [][]string{{"a", "b"}}}
		if d := cmp.Diff(want, r.Cluster); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if len(r.Troubles) != 1 || r.Troubles[0].Kind != "rejected" ||
			r.Troubles[0].Policies[0] != "ClusterNetworkPolicy a" ||
			!strings.Contains(r.Troubles[0].Reason, "spec.ingress[0].except") {
			t.Errorf("%+v", r.Troubles)
		}
		l.Update(func(o Objects) { o.DeleteClusterPolicy("a") })
		synctest.Wait()
		if r := l.Report().Policies; len(r.Troubles) > 0 || r.Cluster.Ties != nil {
			t.Errorf("%+v", r)
		}
	})
}

// TestSequentialReport: the report names the policies whose rules are checked one after the other, while pods have
// them.
func TestSequentialReport(t *testing.T) {
	bounds := tier.DefaultBounds()
	bounds.Elements = 0
	l := NewLoop(translate.New("node", translate.Options{TierBounds: bounds}), LoopConfig{
		Kernel: kernelFunc(nil), Log: slog.New(slog.DiscardHandler), Node: "node", Source: "test",
	})
	l.Update(func(o Objects) {
		o.SetNamespace("ns", nil)
		o.SetClusterPolicy(clusterPolicy(t, "all", ""))
		o.SetClusterPolicy(clusterPolicy(t, "labels", `}, {"action": "Deny", "from": [{"pods": {
			"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a"}}}}]`))
	})
	setPodAt(l, "a", "10.0.0.1")
	l.state.Complete()
	want := [][]string{{"ClusterNetworkPolicy all", "ClusterNetworkPolicy labels"}}
	if got := l.Report().Policies.Cluster.Sequential; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	l.Update(func(o Objects) { o.DeletePod(types.NamespacedName{Namespace: "ns", Name: "a"}) })
	l.state.Complete()
	if got := l.Report().Policies.Cluster.Sequential; len(got) > 0 {
		t.Errorf("got %v of a node without pods", got)
	}
}

// TestRuleMetric: each denying rule of a ClusterNetworkPolicy has a series with its policy's full name. It keeps its
// count when the policy's text changes, its pods are gone, or the table is replaced. Removed rules have no series.
func TestRuleMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernelFunc(nil)
		l, registry := newTestLoop(t, k)
		long := strings.Repeat("long-", 40)
		set := func(text string, names ...string) {
			l.Update(func(o Objects) {
				for i, name := range names {
					port := fmt.Sprintf(`, "protocols": [{"tcp": {"destinationPort": {"number": %d}}}]`, i+1)
					o.SetClusterPolicy(clusterPolicy(t, name, port+text))
				}
			})
		}
		l.Update(func(o Objects) { o.SetNamespace("ns", nil) })
		set("", "guard", long+"a", long+"b")
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		want := func(packets uint64, names ...string) {
			t.Helper()
			synctest.Wait()
			if _, err := l.Denied(t.Context()); err != nil {
				t.Error(err)
			}
			const metric = "netpold_cluster_policy_denied_packets_total"
			text := "# HELP " + metric + " Packets that a rule of a ClusterNetworkPolicy denied to or from this " +
				"node's pods, by tier, policy, direction and rule, counted from 1 in each direction.\n" +
				"# TYPE " + metric + " counter\n"
			for _, name := range names {
				text += fmt.Sprintf("%s{direction=\"ingress\",policy=%q,rule=\"1\",tier=\"Admin\"} %d\n", metric, name,
					packets)
			}
			if err := testutil.GatherAndCompare(registry, strings.NewReader(text), metric); err != nil {
				t.Error(err)
			}
		}
		want(0, "guard", long+"a", long+"b")
		k.denied = 5
		want(5, "guard", long+"a", long+"b")
		set(`, "name": "another"`, "guard", long+"a", long+"b")
		want(5, "guard", long+"a", long+"b")
		l.Drifted("test")
		synctest.Wait()
		k.denied = 2
		want(7, "guard", long+"a", long+"b")
		l.Update(func(o Objects) { o.DeletePod(types.NamespacedName{Namespace: "ns", Name: "a"}) })
		synctest.Wait()
		time.Sleep(time.Minute) // of the bubble's clock: the chains are deleted
		want(7, "guard", long+"a", long+"b")
		l.Update(func(o Objects) { o.DeleteClusterPolicy(long + "a") })
		want(7, "guard", long+"b")
	})
}
