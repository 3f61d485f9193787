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
// direction, is sent to an isolation of the audited ones whose verdicts all lead to where the pod's packets go without
// it: to its rules of tier Baseline, or on. Where an enforced policy isolates, there is no such isolation: policies
// only add, so what all of them together would deny, the enforced ones deny already.
//
// What follows here is in the table while there are such isolations in the direction. The rest of it is as ever.

// auditedSet names the set that counts what audited policies of a direction would deny. auditChain looks a packet up in
// it, auditExemptChain has what no policy could block, and both lead to passChain, as all that they allow does. passMap
// names the map of the pods that have rules of tier Baseline.
func auditedSet(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-audited-%s", d, f) }
func auditChain(d policy.Direction) string               { return "audit-" + d.String() }
func auditExemptChain(d policy.Direction) string         { return "audit-exempt-" + d.String() }
func passChain(d policy.Direction) string                { return "audit-pass-" + d.String() }
func passMap(d policy.Direction, f nft.Family) string    { return passChain(d) + "-" + f.String() }

// OfAudit says whether a chain or set is one that all isolations which audit lead to, and in which direction.
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

// WouldDeny says whether a verdict on a packet's way is that audited policies of a direction would deny it.
func WouldDeny(v nft.Verdict, d policy.Direction) bool {
	return v == nft.GotoChain(auditChain(d)) ||
		v == nft.GotoChain(tierDenyChain(AuditAdmin, d)) || v == nft.GotoChain(tierDenyChain(AuditBaseline, d))
}

// OnlyTells says whether a chain that logs tells what only would be denied.
func OnlyTells(chain string) bool {
	k, _ := KindOf(chain)
	r, _ := ParseTierRule(chain)
	return k.Audit || r.Tier.Audit()
}

// AuditedSets returns the sets of the audited pods that count what would be denied. A table has those of NetworkPolicy,
// and of each tier, while it audits such policies in the direction.
func AuditedSets() []DeniedSet {
	sets := DeniedSets()
	for i, set := range sets {
		sets[i].Name, sets[i].Audit = auditedSet(set.Direction, set.Type.Family), true
	}
	return append(sets, tierSets(AuditAdmin, AuditBaseline)...)
}

// OpenAudit makes one more user of what isolations that audit a direction lead to, before it is made itself.
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

// setPass makes or deletes what leads on from isolations that audit.
func (fr *Frame) setPass(d policy.Direction) {
	c := &nft.Chain{Name: passChain(d), Comment: "goes on as without audited policies"}
	for _, f := range nft.Families() {
		if fr.audits[d] == 0 || fr.tiers[Baseline][d] == 0 {
			fr.table.DeleteSet(passMap(d, f))
			continue
		}
		baseline := fr.table.Set(passMap(d, f), nft.SetType{Family: f, Fields: nft.Addr, Map: true},
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

// CloseAudit takes back one [Frame.OpenAudit], after its user is gone.
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

// setAudit sends what the audited pod at an address sends or gets on to its rules of tier Baseline, if it has some.
func (fr *Frame) setAudit(d policy.Direction, a netip.Addr, text string, way Way) {
	if fr.audits[d] == 0 || fr.tiers[Baseline][d] == 0 {
		return
	}
	v := nft.Value{Verdict: nft.GotoChain(way.Tiers[Baseline]), Comment: text}
	put(fr.table.FindSet(passMap(d, nft.FamilyOf(a))), a, v,
		way.Audit && way.audits() && way.Tiers[Baseline] != "")
}
