// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// TestTierCauses: a diff names the rules of ClusterNetworkPolicies that make it, and not those that stay.
func TestTierCauses(t *testing.T) {
	const stays = `{"tier": "Baseline", "priority": 1, "subject": {"namespaces": {}}, "ingress": [
		{"name": "base", "action": "Deny", "from": [{"namespaces": {}}],
		"protocols": [{"tcp": {"destinationPort": {"number": 9}}}]}]}`
	guard := func(rules string) string {
		return `{"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, ` + rules + `}`
	}
	ssh := guard(`"ingress": [{"name": "no-ssh", "action": "Deny", "from": [{"namespaces": {}}],
		"protocols": [{"tcp": {"destinationPort": {"number": 22}}}]}]`)
	meta := guard(`"egress": [{"action": "Deny", "to": [{"networks": ["192.0.2.0/24"]}]}]`)
	for name, tc := range map[string]struct {
		before, after string
		want          []string
	}{
		"denied": {guard(`"ingress": []`), ssh, []string{
			"lost every workload -> every workload TCP 22: ingress: denied by Admin: guard rule 1 `no-ssh`"}},
		"not denied any more": {ssh, guard(`"ingress": []`), []string{
			"gained every workload -> every workload TCP 22: ingress: was denied by Admin: guard rule 1 `no-ssh`"}},
		"a network": {guard(`"ingress": []`), meta, []string{
			"lost every workload -> 192.0.2.0/24 all: egress: denied by Admin: guard rule 1"}},
		"accepted before Baseline denies it": {guard(`"ingress": []`), guard(`"ingress": [{"action": "Accept",
			"from": [{"namespaces": {}}]}]`), []string{
			"gained every workload -> every workload TCP 9: ingress: allowed by Admin: guard rule 1"}},
		"fails closed": {guard(`"egress": []`), guard(`"egress": [{"action": "Pass", "to": [{"x": {}}]}]`), []string{
			"lost every workload -> every workload all but TCP 9: egress: denied by Admin: guard rule 1",
			"lost every workload -> outside all: egress: denied by Admin: guard rule 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var clusters [2]*connectivity.Matrix
			for i, spec := range []string{tc.before, tc.after} {
				c := &policy.Cluster{Namespaces: map[string]map[string]string{"n": {}}}
				for i := range 2 {
					c.Pods = append(c.Pods, policy.Pod{NamespacedName: types.NamespacedName{Namespace: "n",
						Name: fmt.Sprint("p", i)},
						IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}})
				}
				for name, spec := range map[string]string{"guard": spec, "stays": stays} {
					p, err := policy.ReadClusterPolicy(fmt.Appendf(nil, `{"metadata": {"name": %q}, "spec": %s}`,
						name, spec))
					if err != nil {
						t.Fatal(err)
					}
					c.ClusterPolicies = append(c.ClusterPolicies, p)
				}
				clusters[i] = connectivity.New(c)
			}
			d := connectivity.Compare(clusters[0], clusters[1])
			var got []string
			for _, c := range d.Changes {
				word := "lost"
				if c.Gained {
					word = "gained"
				}
				var why []string
				for _, cause := range c.Causes {
					why = append(why, cause.String())
				}
				got = append(got, fmt.Sprintf("%s %s -> %s %s: %s", word, strings.Join(d.Text(c.From), ","),
					strings.Join(d.Text(c.To), ","), c.Ports, strings.Join(why, "; ")))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}
