// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
	"net/netip"

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

// shadowNames returns the names of everything for audited tiers in a direction.
func shadowNames(d policy.Direction) []string {
	names := []string{shadowChain(nft.Forward, d), shadowChain(nft.Input, d), adminChain(AuditAdmin, d)}
	for _, f := range nft.Families() {
		names = append(names, shadowMap(d, f), adminMap(AuditAdmin, d, f))
	}
	for _, t := range AllTiers() {
		if !t.Audit() {
			continue
		}
		names = append(names, tierDenyChain(t, d))
		for _, f := range nft.Families() {
			names = append(names, tierSet(t, d, f))
		}
	}
	return names
}

// shadows says whether there are audited tiers in a direction.
func (fr *Frame) shadows(d policy.Direction) bool {
	return fr.tiers[AuditAdmin][d]+fr.tiers[AuditBaseline][d] > 0
}

// setShadows makes or deletes the base chains of audited tiers in a direction.
func (fr *Frame) setShadows(d policy.Direction) {
	hooks, priority := []nft.Hook{nft.Forward}, ingressAudited
	if d == policy.Egress {
		hooks, priority = []nft.Hook{nft.Forward, nft.Input}, egressAudited
	}
	if fr.options.PodToNode == policy.AllowPodToNode {
		hooks = hooks[:1]
	}
	if !fr.shadows(d) {
		for _, h := range hooks {
			fr.table.DeleteChain(shadowChain(h, d))
		}
		for _, f := range nft.Families() {
			fr.table.DeleteSet(shadowMap(d, f))
		}
		return
	}
	rules := fr.established()
	if fr.tiers[AuditAdmin][d] > 0 {
		rules = append(rules, nft.R(nft.JumpTo(adminChain(AuditAdmin, d))))
	}
	for _, f := range nft.Families() {
		pods := fr.table.Set(shadowMap(d, f), podsType(f),
			"pods of this node, to what audited policies ask after tier Admin")
		rules = append(rules, nft.R(nft.LookupIn(PodSide(d), pods)))
	}
	for _, h := range hooks {
		fr.table.SetChain(&nft.Chain{Name: shadowChain(h, d), Rules: rules,
			Comment: "what ClusterNetworkPolicies that are only audited would deny",
			Base:    &nft.Base{Hook: h, Priority: priority}})
	}
}

// setShadow sends the traffic of the pod at an address on from tier AuditAdmin, if it is audited.
func (fr *Frame) setShadow(d policy.Direction, a netip.Addr, text string, way Way) {
	if !fr.shadows(d) {
		return
	}
	next := way.Shadow
	if next == "" {
		next = way.Tiers[AuditBaseline]
	}
	put(fr.table.FindSet(shadowMap(d, nft.FamilyOf(a))), a, nft.Value{Verdict: nft.GotoChain(next), Comment: text},
		next != "" && !way.Refused)
}
