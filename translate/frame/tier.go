// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Tier is a tier of ClusterNetworkPolicies.
type Tier uint8

// The two tiers: one comes before NetworkPolicy, and one after it, for pods that no NetworkPolicy isolates. Then the
// same as they would be if audited policies were enforced; these deny nothing.
const (
	Admin Tier = iota
	Baseline
	AuditAdmin
	AuditBaseline
)

// AllTiers returns the two that are enforced, in the order in which they are asked, and then those that audit.
func AllTiers() [4]Tier { return [...]Tier{Admin, Baseline, AuditAdmin, AuditBaseline} }

// Audit says whether the tier only audits.
func (t Tier) Audit() bool { return t >= AuditAdmin }

// Audited is the tier that audits what t enforces.
func (t Tier) Audited() Tier { return t%AuditAdmin + AuditAdmin }

// Enforced is the tier that enforces what t audits.
func (t Tier) Enforced() Tier { return t % AuditAdmin }

// String returns the tier's name in the API, which is the same if it audits.
func (t Tier) String() string { return [...]string{"Admin", "Baseline"}[t.Enforced()] }

// Title begins comments about the tier.
func (t Tier) Title() string {
	if t.Audit() {
		return t.String() + ", audited"
	}
	return t.String()
}

// Prefix begins all names in a table for a tier in a direction.
func (t Tier) Prefix(d policy.Direction) string {
	prefix := strings.ToLower(t.String()) + "-" + d.String() + "-"
	if t.Audit() {
		return "audit-" + prefix
	}
	return prefix
}

// Allow is the verdict of what the tier accepts in a direction.
func (t Tier) Allow(d policy.Direction) nft.Verdict {
	if t.Audit() {
		return accept()
	}
	return Allow(d)
}

// The names of what a table has while pods of the node are subjects of a tier: the map of the pods with a list of rules
// in Admin, and the sets that count what a tier denies, each with the chain that looks up packets in it.
func adminMap(t Tier, d policy.Direction, f nft.Family) string {
	return t.Prefix(d) + "pods-" + f.String()
}
func adminChain(t Tier, d policy.Direction) string { return strings.TrimSuffix(t.Prefix(d), "-") }
func tierSet(t Tier, d policy.Direction, f nft.Family) string {
	return t.Prefix(d) + "denied-" + f.String()
}
func tierDenyChain(t Tier, d policy.Direction) string {
	if t.Audit() {
		return "would-deny-" + strings.TrimSuffix(t.Enforced().Prefix(d), "-")
	}
	return "deny-" + strings.TrimSuffix(t.Prefix(d), "-")
}

// The chains of what is exempt from tiers, and of what no policy can block while there are ingress tiers, which then
// decide about a pod's traffic to itself through a Service.
const (
	exemptChain       = "exempt-from-tiers"
	alwaysEgressChain = "always-allowed-egress"
)

// TierRule is the rule of a ClusterNetworkPolicy that a chain denies for. The prefix of a logged packet is the name of
// the chain.
type TierRule struct {
	Tier      Tier
	Direction policy.Direction
	Policy    string
	Index     int // of the rule in spec.ingress or spec.egress
}

// Chain names the chain of a rule: "<tier>-<direction>-rule-<hash>-<index>-<policy>". A long policy name is truncated.
func (r TierRule) Chain() string {
	name := fmt.Sprintf("%srule-%s-%d-%s", r.Tier.Prefix(r.Direction), nft.Hash(r.Policy), r.Index, r.Policy)
	return name[:min(len(name), maxName)]
}

// ParseTierRule parses what [TierRule.Chain] returns, and returns false for a name that no rule can have. The policy's
// name may be truncated.
func ParseTierRule(chain string) (TierRule, bool) {
	for _, t := range AllTiers() {
		for _, d := range policy.Directions() {
			rest, ok := strings.CutPrefix(chain, t.Prefix(d)+"rule-")
			if !ok || len(rest) <= nft.HashLen {
				continue
			}
			index, name, ok := strings.Cut(rest[nft.HashLen+1:], "-")
			if i, err := strconv.Atoi(index); ok && err == nil {
				return TierRule{t, d, name, i}, true
			}
		}
	}
	return TierRule{}, false
}

// TierTail returns the rules of a denying rule's chain: return for what is exempt; log, count, drop. It never rejects.
func (fr *Frame) TierTail(r TierRule) []nft.Rule {
	end := fr.TierEnd(r.Tier, r.Direction)
	return slices.Concat(end[:1], fr.log(r.Chain()), end[1:])
}

// TierRefuse returns the rules of a chain that stands in for refused rules: it denies everything, or audits nothing.
func (fr *Frame) TierRefuse(t Tier, d policy.Direction) []nft.Rule {
	if t.Audit() {
		return []nft.Rule{nft.R(accept())}
	}
	return fr.TierEnd(t, d)
}

// TierEnd is [Frame.TierTail] for no particular rule: it does not log.
func (fr *Frame) TierEnd(t Tier, d policy.Direction) []nft.Rule {
	return []nft.Rule{nft.R(nft.JumpTo(exemptChain)), nft.R(nft.Counter{}, nft.GotoChain(tierDenyChain(t, d)))}
}

// tiersOf counts the enforcing users of a direction.
func (fr *Frame) tiersOf(d policy.Direction) int { return fr.tiers[Admin][d] + fr.tiers[Baseline][d] }

// OpenTier adds a user of what a table has for the subjects of a tier in a direction. It says whether that changes the
// tails of egress isolations.
func (fr *Frame) OpenTier(t Tier, d policy.Direction) (tails bool) {
	fr.tiers[t][d]++
	if fr.tiers[t][d] > 1 {
		return false
	}
	tails = d == policy.Ingress && !t.Audit() && fr.tiersOf(d) == 1
	if tails {
		fr.setAlways(alwaysEgressChain, Allow(policy.Egress))
	}
	exempt := &nft.Chain{Name: exemptChain, Comment: "what no ClusterNetworkPolicy denies"}
	add := func(statements ...nft.Statement) { exempt.Rules = append(exempt.Rules, nft.R(statements...)) }
	add(nft.NeighbourDiscovery{}, accept())
	add(nft.CtDNAT{}, nft.Verdict{Kind: nft.Return}) // a pod that reaches itself through a Service is not exempt
	deny, end, denied := fr.tierDenial(t, d)
	isAdmin := t.Enforced() == Admin
	admin := &nft.Chain{Name: adminChain(t, d), Comment: "rules of tier " + t.Title() +
		"; comes back if they do not decide"}
	for _, f := range nft.Families() {
		add(nft.LookupIn(nft.Source, fr.table.FindSet(selfSet(f))), accept())
		set := fr.table.Set(tierSet(t, d, f), nft.SetType{Family: f, Fields: nft.Addr, Counter: true}, denied)
		deny.Rules = append(deny.Rules, nft.R(nft.LookupIn(PodSide(d), set)))
		if isAdmin {
			pods := fr.table.Set(adminMap(t, d, f), podsType(f),
				"pods of this node that tier "+t.Title()+" has rules for")
			admin.Rules = append(admin.Rules, nft.R(nft.LookupIn(PodSide(d), pods)))
		}
	}
	deny.Rules = append(deny.Rules, nft.R(end))
	fr.table.SetChain(exempt)
	fr.table.SetChain(deny)
	if isAdmin {
		fr.table.SetChain(admin)
	}
	fr.leadTo(t, d)
	return tails
}

// tierDenial returns the start of the chain that counts what a tier denies, its final verdict, and the sets' comment.
func (fr *Frame) tierDenial(t Tier, d policy.Direction) (c *nft.Chain, end nft.Verdict, sets string) {
	c = &nft.Chain{Name: tierDenyChain(t, d)}
	if t.Audit() {
		c.Comment = "what tier " + t.String() + " would deny, with audited policies; counts it by pod"
		return c, accept(), "packets that tier " + t.String() + " would deny, by pod of this node"
	}
	c.Comment, c.Rules = "what tier "+t.String()+" denies; counts it by pod", fr.countDenied()
	return c, nft.Verdict{Kind: nft.Drop}, "packets that tier " + t.String() + " denied, by pod of this node"
}

// leadTo rebuilds what leads to a tier in a direction after users have come or gone.
func (fr *Frame) leadTo(t Tier, d policy.Direction) {
	switch {
	case t.Audit():
		fr.setShadows(d)
		fr.regardWay()
	case t == Admin:
		fr.setWay()
	default:
		fr.setPass(d)
		fr.regardWay()
	}
}

// CloseTier takes back one [Frame.OpenTier].
func (fr *Frame) CloseTier(t Tier, d policy.Direction) (tails bool) {
	fr.tiers[t][d]--
	if fr.tiers[t][d] > 0 {
		return false
	}
	fr.table.DeleteChain(tierDenyChain(t, d))
	for _, f := range nft.Families() {
		fr.table.DeleteSet(tierSet(t, d, f))
		if t.Enforced() == Admin {
			fr.table.DeleteSet(adminMap(t, d, f))
		}
	}
	if fr.tiers == ([4][2]int{}) {
		fr.table.DeleteChain(exemptChain)
	}
	if t.Enforced() == Admin {
		fr.table.DeleteChain(adminChain(t, d))
	}
	fr.leadTo(t, d)
	if tails = d == policy.Ingress && !t.Audit() && fr.tiersOf(d) == 0; tails {
		fr.table.DeleteChain(alwaysEgressChain)
	}
	return tails
}

// setTiers sends the traffic of the pod at an address in a direction to its rules of the tiers, if there are any.
func (fr *Frame) setTiers(d policy.Direction, a netip.Addr, text string, way Way) {
	f := nft.FamilyOf(a)
	for _, t := range AllTiers() {
		if fr.tiers[t][d] == 0 {
			continue
		}
		in := way.Tiers[t] != "" && !way.Refused
		put(fr.table.FindSet(tierSet(t, d, f)), a, nft.Value{Comment: text}, in)
		if t.Enforced() == Admin {
			v := nft.Value{Verdict: nft.GotoChain(way.Tiers[t]), Comment: text}
			put(fr.table.FindSet(adminMap(t, d, f)), a, v, in)
		}
	}
}

// TierSets returns the sets that count the tiers' drops. A table has those of a tier and direction while pods of the
// node are subjects.
func TierSets() []DeniedSet { return tierSets(Admin, Baseline) }

func tierSets(tiers ...Tier) []DeniedSet {
	var sets []DeniedSet
	for _, t := range tiers {
		for _, d := range policy.Directions() {
			for _, f := range nft.Families() {
				typ := nft.SetType{Family: f, Fields: nft.Addr, Counter: true}
				sets = append(sets, DeniedSet{Name: tierSet(t, d, f), Type: typ, Direction: d, Tier: t.String(),
					Audit: t.Audit()})
			}
		}
	}
	return sets
}
