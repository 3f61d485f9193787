// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
	"net/netip"
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
		names := []string{auditChain(d), auditExemptChain(d), passChain(d)}
		for _, f := range nft.Families() {
			names = append(names, auditedSet(d, f), passMap(d, f))
		}
		names = append(names, shadowNames(d)...)
		if slices.Contains(names, name) {
			return d, true
		}
	}
	return 0, false
}

// WouldDeny says whether a verdict on a packet's way means that audited policies of a direction would deny it.
func WouldDeny(v nft.Verdict, d policy.Direction) bool {
	return v == nft.GotoChain(auditChain(d)) ||
		v == nft.GotoChain(tierDenyChain(AuditAdmin, d)) || v == nft.GotoChain(tierDenyChain(AuditBaseline, d))
}

// OnlyTells says whether a chain only logs what would be denied.
func OnlyTells(chain string) bool {
	k, _ := KindOf(chain)
	r, _ := ParseTierRule(chain)
	return k.Audit || r.Tier.Audit()
}

// AuditedSets returns the sets that count what would be denied to audited pods. A table has those of NetworkPolicy, and
// of each tier, while it audits such policies in the direction.
func AuditedSets() []DeniedSet {
	sets := DeniedSets()
	for i, set := range sets {
		sets[i].Name, sets[i].Audit = auditedSet(set.Direction, set.Type.Family), true
	}
	return append(sets, tierSets(AuditAdmin, AuditBaseline)...)
}

// OpenAudit adds a user of what a direction's auditing isolations lead to; call it before making the isolation.
func (fr *Frame) OpenAudit(d policy.Direction) {
	fr.audits[d]++
	if fr.audits[d] > 1 {
		return
	}
	on := nft.GotoChain(passChain(d))
	count := &nft.Chain{Name: auditChain(d),
		Comment: "what audited policies would deny; counts it in the pod's element"}
	exempt := &nft.Chain{Name: auditExemptChain(d), Comment: "what no policy could block",
		Rules: []nft.Rule{nft.R(nft.NeighbourDiscovery{}, on)}}
	for _, f := range nft.Families() {
		typ := nft.SetType{Family: f, Fields: nft.Addr, Counter: true}
		counts := fr.table.Set(auditedSet(d, f), typ, "packets that would be denied, by pod of this node")
		count.Rules = append(count.Rules, nft.R(nft.LookupIn(PodSide(d), counts)))
		self := nft.LookupIn(nft.Source, fr.table.FindSet(selfSet(f)))
		exempt.Rules = append(exempt.Rules, nft.R(self, on))
	}
	count.Rules = append(count.Rules, nft.R(on))
	fr.table.SetChain(count)
	fr.table.SetChain(exempt)
	fr.setPass(d)
	fr.regardWay()
}

// setPass makes or deletes what leads on from auditing isolations.
func (fr *Frame) setPass(d policy.Direction) {
	c := &nft.Chain{Name: passChain(d), Comment: "goes on as without audited policies"}
	for _, f := range nft.Families() {
		if fr.audits[d] == 0 || fr.tiers[Baseline][d] == 0 {
			fr.table.DeleteSet(passMap(d, f))
			continue
		}
		baseline := fr.table.Set(passMap(d, f), podsType(f),
			"audited pods that tier Baseline has rules for")
		c.Rules = append(c.Rules, nft.R(nft.LookupIn(PodSide(d), baseline)))
	}
	if fr.audits[d] == 0 {
		fr.table.DeleteChain(c.Name)
		return
	}
	c.Rules = append(c.Rules, nft.R(Allow(d)))
	fr.table.SetChain(c)
}

// CloseAudit takes back one [Frame.OpenAudit]; call it after its user is gone.
func (fr *Frame) CloseAudit(d policy.Direction) {
	fr.audits[d]--
	if fr.audits[d] > 0 {
		return
	}
	for _, f := range nft.Families() {
		fr.table.DeleteSet(auditedSet(d, f))
	}
	fr.table.DeleteChain(auditChain(d))
	fr.table.DeleteChain(auditExemptChain(d))
	fr.setPass(d)
	fr.regardWay()
}

// setAudit sends an audited pod's traffic, by its address, on to its rules of tier Baseline, if it has any.
func (fr *Frame) setAudit(d policy.Direction, a netip.Addr, text string, way Way) {
	if fr.audits[d] == 0 || fr.tiers[Baseline][d] == 0 {
		return
	}
	v := nft.Value{Verdict: nft.GotoChain(way.Tiers[Baseline]), Comment: text}
	put(fr.table.FindSet(passMap(d, nft.FamilyOf(a))), a, v,
		way.Audit && way.audits() && way.Tiers[Baseline] != "")
}
