// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// An audited policy isolates nothing. A pod that audited policies select, and that no enforced one isolates in a
// direction, is sent to an isolation of the audited ones, whose verdicts all lead to where the pod's packets would go
// without it: to its rules of tier Baseline, or on. Where an enforced policy isolates, there is no such isolation:
// policies are additive, so the enforced ones already deny whatever all of them together would.
//
// What follows is in the table only while there are such isolations in the direction. The rest stays the same.

// auditedSet names the set that counts what audited policies of a direction would deny. auditChain looks up packets in
// it, and auditExemptChain has what no policy could block; both lead to passChain, as everything allowed does. passMap
// names the map of the pods with rules of tier Baseline.
func auditedSet(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-audited-%s", d, f) }
func auditChain(d policy.Direction) string               { return "audit-" + d.String() }
func auditExemptChain(d policy.Direction) string         { return "audit-exempt-" + d.String() }
func passChain(d policy.Direction) string                { return "audit-pass-" + d.String() }
func passMap(d policy.Direction, f nft.Family) string    { return passChain(d) + "-" + f.String() }

// OfAudit says whether a chain or set is one that all auditing isolations lead to, and in which direction.
func OfAudit(name string) (policy.Direction, bool) {
	for _, d := range policy.Directions() {
		names := []string{
			auditChain(d), auditExemptChain(d), passChain(d), adminChain(AuditAdmin, d),
			shadowChain(nft.Forward, d), shadowChain(nft.Input, d),
			tierDenyChain(AuditAdmin, d), tierDenyChain(AuditBaseline, d),
		}
		for _, f := range nft.Families() {
			names = append(names, auditedSet(d, f), passMap(d, f), shadowMap(d, f), adminMap(AuditAdmin, d, f),
				tierSet(AuditAdmin, d, f), tierSet(AuditBaseline, d, f))
		}
		if slices.Contains(names, name) {
			return d, true
		}
	}
	return 0, false
}

// OnlyTells says whether a chain only logs what would be denied.
func OnlyTells(chain string) bool {
	k, _ := KindOf(chain)
	r, _ := ParseTierRule(chain)
	return k.Audit || r.Tier.Audit()
}

// UseAudit adds users (by 1, or -1) of what a direction's auditing isolations lead to: before one is made, or after it
// is gone.
func (fr *Frame) UseAudit(d policy.Direction, by int) { fr.use(&fr.audits[d], by) }

// audit makes what a direction's auditing isolations lead to.
func (fr *Frame) audit(d policy.Direction) {
	if fr.audits[d] == 0 {
		return
	}
	on := nft.GotoChain(passChain(d))
	var count, pass []nft.Rule
	for _, f := range nft.Families() {
		pods := fr.pods[d][f]
		pods.audited = fr.set(auditedSet(d, f), counterType(f), "packets that would be denied, by pod of this node")
		count = append(count, nft.R(nft.LookupIn(PodSide(d), pods.audited)))
		if fr.tiers[Baseline][d] > 0 {
			pods.pass = fr.set(passMap(d, f), podsType(f), "audited pods that tier Baseline has rules for")
			pass = append(pass, nft.R(nft.LookupIn(PodSide(d), pods.pass)))
		}
	}
	fr.chain(auditChain(d), "what audited policies would deny; counts it in the pod's element",
		append(count, nft.R(on))...)
	fr.chain(auditExemptChain(d), "what no policy could block",
		append([]nft.Rule{nft.R(nft.NeighbourDiscovery{}, on)}, fr.toItself(on)...)...)
	fr.chain(passChain(d), "goes on as without audited policies", append(pass, nft.R(Allow(d)))...)
}
