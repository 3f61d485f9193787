// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Bounds on the parts of a line that others choose.
const (
	maxPolicies = 8
	maxNearest  = 400 // bytes
)

// denier is what denies packets, or would: an isolation, a rule of a ClusterNetworkPolicy, or the guard.
type denier struct {
	direction policy.Direction
	policies  []string
	audit     bool                   // it only would
	rule      *policy.ClusterRuleRef // nil if it is no rule
	guard     *bool                  // whether the guard is on now; nil if it is not the guard
}

// denierOf returns what a chain denies by, and false if it is none of ours.
func denierOf(s *translate.State, chain string) (denier, bool) {
	if d, unknown := frame.UnknownPod(chain); unknown {
		guard := s.Guard()
		on := guard.Wanted().On()
		return denier{direction: d, policies: []string{}, guard: &on}, true
	}
	if ref, ok := s.TierRuleOf(chain); ok {
		return denier{direction: ref.Direction, policies: []string{ref.Policy}, audit: frame.OnlyTells(chain),
			rule: &ref}, true
	}
	i, ok := s.IsolationOf(chain)
	return denier{direction: i.Direction, policies: PolicyNames(i), audit: i.Audit}, ok
}

// why is the end of a line: why a flow is denied, or that it no longer is. Without an excerpt it only says by what.
func (by denier) why(r *Record, flow policy.Flow, excerpt *policy.Cluster) string {
	if by.guard != nil {
		return ": " + by.unknown(r.Isolated())
	}
	isolated := r.Isolated()
	is, was := " blocked: ", " was blocked: "
	if by.audit {
		is, was = " would be blocked: ", " would have been blocked: "
	}
	subject := fmt.Sprintf("%s of %s", r.Direction, cmp.Or(isolated.Pod, isolated.Address.String()))
	does, did, lacks := by.verbs()
	is, was = is+subject+does, was+subject+did
	if excerpt == nil {
		return is + lacks
	}
	explanation := excerpt.Explain(flow)
	now := explanation.Ingress
	if by.direction == policy.Egress {
		now = explanation.Egress
	}
	if now.Pod == nil || isolated.Pod != "" && now.Pod.String() != isolated.Pod {
		return was + "; the pod no longer has the address"
	}
	if by.audit && !now.Allowed && (by.rule != nil || !now.WouldDeny()) {
		return was + "; the current policies block it"
	}
	if by.audit && now.Audit != nil {
		now, excerpt = *now.Audit, excerpt.AllEnforced()
	}
	switch {
	case now.Allowed:
		return was + "; the current policies allow it"
	case by.rule != nil && by.verdict(now) == nil:
		return was + "; another policy denies it now"
	case by.rule == nil && !by.audit && now.Quarantine != "":
		return is + "; quarantined, nothing is allowed: " + now.Quarantine
	}
	return is + lacks + by.nearest(flow, now, excerpt)
}

// verbs say what it does, and did, to the isolated end, and what a flow lacks.
func (by denier) verbs() (does, did, lacks string) {
	if by.rule != nil {
		return fmt.Sprintf(": %s denies", by.rule), fmt.Sprintf(": %s denied", by.rule), ""
	}
	state := "isolated by "
	if by.audit {
		state = "audited by "
	}
	state += strings.Join(by.policies, ", ")
	return " is " + state, " was " + state, " and no rule allows it"
}

// verdict returns the rule's own denial in a decision; nil if another rule denies.
func (by denier) verdict(now policy.Decision) *policy.ClusterVerdict {
	verdicts := []*policy.ClusterVerdict{now.Admin, now.Baseline}
	i := slices.IndexFunc(verdicts, func(v *policy.ClusterVerdict) bool {
		return v != nil && v.Action == v1alpha2.ClusterNetworkPolicyRuleActionDeny && v.ClusterRuleRef == *by.rule
	})
	if i < 0 {
		return nil
	}
	return verdicts[i]
}

// nearest says which rule comes nearest to allowing a flow that is denied, and what it lacks.
func (by denier) nearest(flow policy.Flow, now policy.Decision, excerpt *policy.Cluster) string {
	if by.rule != nil {
		if fault := by.verdict(now).Fault; fault != "" {
			return ", as it is not valid: " + short(fault)
		}
		if near := excerpt.NearestInTier(flow, by.direction, by.rule.Tier); near != nil {
			return fmt.Sprintf(" (nearest: %s: %s)", near.ClusterRuleRef, short(near.Reason))
		}
		return ""
	}
	if rule := now.OverLimit; rule != nil {
		return fmt.Sprintf(" (%s would allow it, but is over a limit)", rule)
	}
	if near := excerpt.Nearest(flow, by.direction); near != nil {
		return fmt.Sprintf(" (nearest: %s: %s)", near.RuleRef, short(near.Reason))
	}
	return " (there are no rules)"
}

// unknown says why the guard dropped a packet to or from an end.
func (by denier) unknown(end Peer) string {
	switch {
	case end.Pod != "":
		return fmt.Sprintf("unknown pod %s was blocked: %s is known to have that address now", end.Address, end.Pod)
	case !*by.guard:
		return fmt.Sprintf("unknown pod %s was blocked: unknown pods are allowed now", end.Address)
	}
	return fmt.Sprintf("unknown pod %s blocked: no pod of this node is known to have that address (yet)", end.Address)
}

// PolicyNames names the first few policies of an isolation.
func PolicyNames(i frame.Isolation) []string {
	named := i.Policies[:min(len(i.Policies), maxPolicies)]
	names := make([]string, 0, len(named)+1)
	for _, p := range named {
		names = append(names, frame.PolicyName(p))
	}
	if more := i.More + len(i.Policies) - len(named); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return names
}

// short truncates text that others choose.
func short(text string) string {
	if len(text) > maxNearest {
		return text[:maxNearest] + "…"
	}
	return text
}
