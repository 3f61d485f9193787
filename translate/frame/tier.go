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

// The two tiers: one is asked before NetworkPolicy, and one after it, of pods that no NetworkPolicy isolates. Then what
// they would be if audited policies were enforced, which denies nothing.
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

// String returns the tier as the API names it, which knows no audit.
func (t Tier) String() string { return [...]string{"Admin", "Baseline"}[t.Enforced()] }

// Title begins comments about the tier.
func (t Tier) Title() string {
	if t.Audit() {
		return t.String() + ", audited"
	}
	return t.String()
}

// Prefix begins the names of all that there is in a table for a tier in a direction.
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

// The names of what a table has while pods of the node are subjects of a tier: the map of the pods that Admin has a
// list of rules for and the chain that looks a packet up there, and the sets that count what a tier denies and the
// chain that looks a packet up in those.
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

// The chains of what is exempt from tiers, and of what no policy can block while there are tiers of ingress: what a pod
// sends to itself by a Service is theirs to decide then.
const (
	exemptChain       = "exempt-from-tiers"
	alwaysEgressChain = "always-allowed-egress"
)

// TierRule is the rule of a ClusterNetworkPolicy that a chain denies by. The prefix of a logged packet is the name of
// the chain.
type TierRule struct {
	Tier      Tier
	Direction policy.Direction
	Policy    string
	Index     int // of the rule in spec.ingress or spec.egress
}

// Chain names the chain of a rule: "<tier>-<direction>-rule-<hash>-<index>-<policy>". Of a long name of a policy it has
// the beginning.
func (r TierRule) Chain() string {
	name := fmt.Sprintf("%srule-%s-%d-%s", r.Tier.Prefix(r.Direction), nft.Hash(r.Policy), r.Index, r.Policy)
	return name[:min(len(name), maxName)]
}

// ParseTierRule reads what [TierRule.Chain] wrote, and returns false for a name that no rule can have. The name of the
// policy may have been cut.
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

// TierTail returns the rules of the chain of a rule that denies: not what is exempt; log, count, drop. It never
// rejects.
func (fr *Frame) TierTail(r TierRule) []nft.Rule {
	end := fr.TierEnd(r.Tier, r.Direction)
	return slices.Concat(end[:1], fr.log(r.Chain()), end[1:])
}

// TierRefuse returns the rules of a chain that stands in for rules that a table cannot have: it denies everything, or
// audits nothing.
func (fr *Frame) TierRefuse(t Tier, d policy.Direction) []nft.Rule {
	if t.Audit() {
		return []nft.Rule{nft.R(accept())}
	}
	return fr.TierEnd(t, d)
}

// TierEnd is [Frame.TierTail] of no rule in particular: it does not log.
func (fr *Frame) TierEnd(t Tier, d policy.Direction) []nft.Rule {
	return []nft.Rule{nft.R(nft.JumpTo(exemptChain)), nft.R(nft.Counter{}, nft.GotoChain(tierDenyChain(t, d)))}
}

// tiersOf counts the users of a direction that enforce.
func (fr *Frame) tiersOf(d policy.Direction) int { return fr.tiers[Admin][d] + fr.tiers[Baseline][d] }

// OpenTier makes one more user of what a table has for the subjects of a tier in a direction. It says whether the tails
// of egress isolations are others from now on.
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
	add(nft.CtDNAT{}, nft.Verdict{Kind: nft.Return}) // a pod that comes to itself by a Service is not exempt
	deny, end, denied := fr.tierDenial(t, d)
	isAdmin := t.Enforced() == Admin
	admin := &nft.Chain{Name: adminChain(t, d), Comment: "rules of tier " + t.Title() +
		"; comes back if they do not decide"}
	for _, f := range nft.Families() {
		add(nft.LookupIn(nft.Source, fr.table.FindSet(selfSet(f))), accept())
		set := fr.table.Set(tierSet(t, d, f), nft.SetType{Family: f, Fields: nft.Addr, Counter: true}, denied)
		deny.Rules = append(deny.Rules, nft.R(nft.LookupIn(PodSide(d), set)))
		if isAdmin {
			pods := fr.table.Set(adminMap(t, d, f), nft.SetType{Family: f, Fields: nft.Addr, Map: true},
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

// tierDenial returns the beginning of the chain that counts what a tier denies, how it ends, and what the sets have.
func (fr *Frame) tierDenial(t Tier, d policy.Direction) (c *nft.Chain, end nft.Verdict, sets string) {
	c = &nft.Chain{Name: tierDenyChain(t, d)}
	if t.Audit() {
		c.Comment = "what tier " + t.String() + " would deny, with audited policies; counts it by pod"
		return c, accept(), "packets that tier " + t.String() + " would deny, by pod of this node"
	}
	c.Comment, c.Rules = "what tier "+t.String()+" denies; counts it by pod", fr.countDenied()
	return c, nft.Verdict{Kind: nft.Drop}, "packets that tier " + t.String() + " denied, by pod of this node"
}

// leadTo makes anew what leads to a tier in a direction, of which something has come or gone.
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

// setTiers sends what the pod at an address sends or gets in a direction to the rules of the tiers, if there are any.
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

// TierSets returns the sets that count what the tiers deny. A table has those of a tier and direction while pods of the
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
