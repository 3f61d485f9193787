// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/netpold/netpold/translate/policy"
)

// clusterPolicy returns a policy of tier Admin whose rule denies all pods, but has one field more.
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
