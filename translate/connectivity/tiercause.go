// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"encoding/json"
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// sameTiers returns the ClusterNetworkPolicies whose manifests are equal in both clusters.
func sameTiers(before, after *policy.Cluster) map[string]bool {
	text := func(c *policy.Cluster, p policy.ClusterPolicy) string {
		all, _ := json.Marshal([]any{p.Spec, p.Unread, c.AuditedInTier(p)}) // these types always marshal
		return string(all)
	}
	old := make(map[string]string)
	for _, p := range before.ClusterPolicies {
		old[p.Name] = text(before, p)
	}
	same := make(map[string]bool)
	for _, p := range after.ClusterPolicies {
		same[p.Name] = old[p.Name] == text(after, p)
	}
	return same
}

// tierCause returns why cluster k allows ports that the other does not, if the cause is ClusterNetworkPolicies that
// differ: the other's rules deny them, or those of cluster k accept them. The functions return the rules that decide in
// a cluster.
func (c *comparison) tierCause(k int, d policy.Direction, ports Ports,
	decide func(*Matrix) decided) (Cause, bool) {
	rules := func(k int, action v1alpha2.ClusterNetworkPolicyRuleAction) []policy.ClusterRuleRef {
		var refs []policy.ClusterRuleRef
		for r, some := range decide(c.m[k]) {
			if r.Action == action && !c.sameTier[r.ClusterRef.Policy] && !slices.Contains(refs, r.ClusterRef) &&
				!c.m[k].fold.Sets[some].Intersect(ports).Empty() {
				refs = append(refs, r.ClusterRef)
			}
		}
		return refs
	}
	if denied := rules(1-k, v1alpha2.ClusterNetworkPolicyRuleActionDeny); denied != nil {
		return Cause{Direction: d, Rules: denied, Effect: []Effect{Denies, Denied}[k]}, true
	}
	accepted := rules(k, v1alpha2.ClusterNetworkPolicyRuleActionAccept)
	return Cause{Direction: d, Rules: accepted, Effect: []Effect{Allowed, Allows}[k]}, accepted != nil
}

// decideBetween returns a function that yields the tier rules that decide connections from one workload to another in a
// direction. Each cluster has its own indexes for the two.
func (c *comparison) decideBetween(d policy.Direction, from, to int) func(*Matrix) decided {
	return func(m *Matrix) decided {
		k := slices.Index(c.m[:], m)
		return func(yield func(*reading.Rule, sets.PortsID) bool) {
			for pod, peer := range m.peersOf(d, c.at[k][from], c.at[k][to]) {
				for _, t := range []reading.Tier{reading.Admin, reading.Baseline} {
					for r, ports := range m.matched(d, t, pod, m.toClass(d, pod, peer)) {
						if !yield(r, ports) {
							return
						}
					}
				}
			}
		}
	}
}

// decideOutside is decideBetween for a workload and networks.
func (c *comparison) decideOutside(d policy.Direction, w int, n Networks) func(*Matrix) decided {
	return func(m *Matrix) decided {
		k := slices.Index(c.m[:], m)
		return func(yield func(*reading.Rule, sets.PortsID) bool) {
			for _, member := range m.members[c.at[k][w]] {
				for _, t := range []reading.Tier{reading.Admin, reading.Baseline} {
					for _, s := range n {
						for r, ports := range m.matched(d, t, member.class, m.toAddress(d, member.class, s.First)) {
							if !yield(r, ports) {
								return
							}
						}
					}
				}
			}
		}
	}
}
