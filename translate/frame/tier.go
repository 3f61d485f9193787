// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
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
	end := fr.tierEnd(r.Tier, r.Direction)
	return slices.Concat(end[:1], fr.log(r.Chain()), end[1:])
}

// TierRefuse returns the rules of a chain that stands in for refused rules: it denies everything, or audits nothing.
func (fr *Frame) TierRefuse(t Tier, d policy.Direction) []nft.Rule {
	if t.Audit() {
		return []nft.Rule{nft.R(accept())}
	}
	return fr.tierEnd(t, d)
}

// tierEnd is [Frame.TierTail] for no particular rule: it does not log.
func (fr *Frame) tierEnd(t Tier, d policy.Direction) []nft.Rule {
	return []nft.Rule{nft.R(nft.JumpTo(exemptChain)), nft.R(nft.Counter{}, nft.GotoChain(tierDenyChain(t, d)))}
}

// ingressTiers says whether enforced tiers decide on ingress.
func (fr *Frame) ingressTiers() bool {
	return fr.tiers[Admin][policy.Ingress]+fr.tiers[Baseline][policy.Ingress] > 0
}

// UseTier adds users (by 1, or -1) of what a table has for the subjects of a tier in a direction. It says whether that
// changes the tails of egress isolations.
func (fr *Frame) UseTier(t Tier, d policy.Direction, by int) (tails bool) {
	had := fr.ingressTiers()
	fr.use(&fr.tiers[t][d], by)
	return had != (fr.ingressTiers())
}

// exempt makes the chain of what no tier denies.
func (fr *Frame) exempt() {
	if fr.tiers == ([4][2]int{}) {
		return
	}
	rules := []nft.Rule{
		nft.R(nft.NeighbourDiscovery{}, accept()),
		nft.R(nft.CtDNAT{}, nft.Verdict{Kind: nft.Return}), // a pod that reaches itself through a Service is not exempt
	}
	fr.chain(exemptChain, "what no ClusterNetworkPolicy denies", append(rules, fr.toItself(accept())...)...)
}

// tier makes what the subjects of a tier in a direction need.
func (fr *Frame) tier(t Tier, d policy.Direction) {
	if fr.tiers[t][d] == 0 {
		return
	}
	end, denies, denied := nft.Verdict{Kind: nft.Drop}, "tier "+t.String()+" denies", "tier "+t.String()+" denied"
	deny := fr.countDenied()
	if t.Audit() {
		end, denied, deny = accept(), "tier "+t.String()+" would deny", nil
		denies = denied + ", with audited policies"
	}
	var admin []nft.Rule
	for _, f := range nft.Families() {
		pods := fr.pods[d][f]
		pods.tierDenied[t] = fr.set(tierSet(t, d, f), counterType(f), "packets that "+denied+", by pod of this node")
		deny = append(deny, nft.R(nft.LookupIn(PodSide(d), pods.tierDenied[t])))
		if t.Enforced() == Admin {
			pods.admin[t] = fr.set(adminMap(t, d, f), podsType(f),
				"pods of this node that tier "+t.Title()+" has rules for")
			admin = append(admin, nft.R(nft.LookupIn(PodSide(d), pods.admin[t])))
		}
	}
	fr.chain(tierDenyChain(t, d), "what "+denies+"; counts it by pod", append(deny, nft.R(end))...)
	if t.Enforced() == Admin {
		fr.chain(adminChain(t, d), "rules of tier "+t.Title()+"; comes back if they do not decide", admin...)
	}
}
