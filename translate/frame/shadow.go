// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Audited ClusterNetworkPolicies see what the enforced policies let through in a direction, in later base chains, which
// let everything through. There, packets of a pod with such rules go the whole way, as if all policies were enforced:
// the rules of tier Admin; then the isolation of its NetworkPolicies, or without any, the rules of tier Baseline. The
// first to decide ends it.
//
// What follows is in the table while pods of the node are subjects of such policies in the direction.

// shadowMap names the map from audited pods to what follows tier Admin, and shadowChain the base chain at a hook.
func shadowMap(d policy.Direction, f nft.Family) string { return fmt.Sprintf("audit-%s-pods-%s", d, f) }
func shadowChain(h nft.Hook, d policy.Direction) string { return fmt.Sprintf("audit-%s-%s", h, d) }

// shadows says whether there are audited tiers in a direction.
func (fr *Frame) shadows(d policy.Direction) bool {
	return fr.tiers[AuditAdmin][d]+fr.tiers[AuditBaseline][d] > 0
}

// shadow makes the base chains of audited tiers in a direction.
func (fr *Frame) shadow(d policy.Direction) {
	if !fr.shadows(d) {
		return
	}
	hooks, priority := []nft.Hook{nft.Forward}, ingressAudited
	if d == policy.Egress {
		priority = egressAudited
		if fr.options.PodToNode != policy.AllowPodToNode {
			hooks = append(hooks, nft.Input)
		}
	}
	rules := fr.established()
	if fr.tiers[AuditAdmin][d] > 0 {
		rules = append(rules, nft.R(nft.JumpTo(adminChain(AuditAdmin, d))))
	}
	for _, f := range nft.Families() {
		pods := fr.set(shadowMap(d, f), podsType(f), "pods of this node, to what audited policies ask after tier Admin")
		fr.pods[d][f].shadow = pods
		rules = append(rules, nft.R(nft.LookupIn(PodSide(d), pods)))
	}
	for _, h := range hooks {
		fr.base(&nft.Base{Hook: h, Priority: priority}, shadowChain(h, d),
			"what ClusterNetworkPolicies that are only audited would deny", rules...)
	}
}
