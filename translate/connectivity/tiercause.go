// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/policy"
)

// tierCause returns why cluster k allows ports that the other does not, if it is by ClusterNetworkPolicies that are not
// the same in both: the other's rules deny them, or those of cluster k accept them. Given is what those rules decide in
// either cluster.
func (c *comparison) tierCause(k int, d policy.Direction, ports Ports, by [2][]decision) (Cause, bool) {
	rules := func(k int, action v1alpha2.ClusterNetworkPolicyRuleAction) []policy.ClusterRuleRef {
		var refs []policy.ClusterRuleRef
		for _, of := range by[k] {
			if of.rule.Action == action && !slices.Contains(refs, of.rule.ClusterRef) &&
				!c.m[k].fold.Sets[of.ports].Intersect(ports).Empty() {
				refs = append(refs, of.rule.ClusterRef)
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

// decideOutside returns what ClusterNetworkPolicies decide, in either cluster, about what goes between a workload and
// networks; without those that are the same in both.
func (c *comparison) decideOutside(d policy.Direction, w int, n Networks) (by [2][]decision) {
	for k, m := range c.m {
		for _, member := range m.members[c.at[k][w]] {
			for _, t := range []reading.Tier{reading.Admin, reading.Baseline} {
				if len(m.rules.Tiers[t]) == 0 {
					continue
				}
				for _, s := range n {
					first := m.toAny(d, member.class, Networks{{First: s.First, Last: s.First}}.Meets)
					for r, ports := range m.matched(d, t, member.class, first) {
						if !c.sameTier[r.ClusterRef.Policy] {
							by[k] = append(by[k], decision{r, ports})
						}
					}
				}
			}
		}
	}
	return by
}
