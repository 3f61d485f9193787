// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"encoding/json"
	"iter"
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// sameTiers returns the ClusterNetworkPolicies that both clusters have alike, as their manifests say it.
func sameTiers(before, after *policy.Cluster) map[string]bool {
	text := func(p policy.ClusterPolicy) string {
		spec, _ := json.Marshal(p.Spec) // what is of these types can be written
		unread, _ := json.Marshal(p.Unread)
		return string(spec) + string(unread)
	}
	old := make(map[string]string)
	for _, p := range before.ClusterPolicies {
		old[p.Name] = text(p)
	}
	same := make(map[string]bool)
	for _, p := range after.ClusterPolicies {
		same[p.Name] = old[p.Name] == text(p)
	}
	return same
}

// tierCause returns why cluster k allows ports that the other does not, if it is by ClusterNetworkPolicies that are not
// the same in both: the other's rules deny them, or those of cluster k accept them. The functions tell which rules
// decide in a cluster.
func (c *comparison) tierCause(k int, d policy.Direction, ports Ports,
	decide func(*Matrix) iter.Seq2[*tierRule, portsID]) (Cause, bool) {
	rules := func(k int, action v1alpha2.ClusterNetworkPolicyRuleAction) []policy.ClusterRuleRef {
		var refs []policy.ClusterRuleRef
		for r, some := range decide(c.m[k]) {
			if r.action == action && !c.sameTier[r.ref.Policy] && !slices.Contains(refs, r.ref) &&
				!c.m[k].ports.sets[some].intersect(ports).Empty() {
				refs = append(refs, r.ref)
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

// decideBetween yields the rules of tiers that decide about what goes from one workload to another in a direction; each
// cluster has numbers of its own for the two.
func (c *comparison) decideBetween(d policy.Direction, from, to int) func(*Matrix) iter.Seq2[*tierRule, portsID] {
	return func(m *Matrix) iter.Seq2[*tierRule, portsID] {
		k := slices.Index(c.m[:], m)
		return func(yield func(*tierRule, portsID) bool) {
			for pod, peer := range m.peers(d, c.at[k][from], c.at[k][to]) {
				for _, l := range m.classes[pod].tiers[d] {
					if l == nil {
						continue
					}
					for r, ports := range m.matched(l, m.toClass(l, peer)) {
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
func (c *comparison) decideOutside(d policy.Direction, w int, n Networks) func(*Matrix) iter.Seq2[*tierRule, portsID] {
	return func(m *Matrix) iter.Seq2[*tierRule, portsID] {
		k := slices.Index(c.m[:], m)
		return func(yield func(*tierRule, portsID) bool) {
			for _, member := range m.members[c.at[k][w]] {
				for _, l := range m.classes[member.class].tiers[d] {
					for _, s := range n {
						if l == nil {
							continue
						}
						for r, ports := range m.matched(l, m.toAddress(l, s.First)) {
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
