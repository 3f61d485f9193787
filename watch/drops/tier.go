// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"fmt"
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// tierRule is a rule of a ClusterNetworkPolicy that denies, or would if enforced.
type tierRule struct {
	policy.ClusterRuleRef
	audit bool
}

// tiered is resolve for a packet that a rule of a ClusterNetworkPolicy denies, or would.
func (l *Log) tiered(p Packet, rule tierRule) Record {
	room := l.window.room(p.key())
	flow := p.Flow
	flow.Service = flow.Src == flow.Dst // otherwise it would never have left the pod
	var r Record
	var excerpt *policy.Cluster
	synced := l.config.View(func(s *translate.State) {
		r = newRecord(s, p, rule.Direction)
		if room && !p.Partial {
			excerpt = s.Excerpt(flow)
		}
	})
	r.Tier, r.Policies, r.Audit = string(rule.Tier), []string{rule.Policy}, rule.audit
	r.external(synced)
	if room {
		r.Text = fmt.Sprintf("%s from %s to %s %s", p.text(), r.Src.text(p), r.Dst.text(p),
			r.whyTier(rule, flow, excerpt))
	}
	return r
}

// whyTier says which rule denies a flow, or would, or that it no longer does.
func (r *Record) whyTier(rule tierRule, flow policy.Flow, excerpt *policy.Cluster) string {
	is, was := "blocked: %s: %s denies", "was blocked: %s: %s denied"
	if rule.audit {
		is, was = "would be blocked: %s: %s denies", "would have been blocked: %s: %s denied"
	}
	isolated := r.Isolated()
	subject := fmt.Sprintf("%s of %s", rule.Direction, cmp.Or(isolated.Pod, isolated.Address.String()))
	plain := fmt.Sprintf(is, subject, rule)
	if excerpt == nil {
		return plain
	}
	explanation := excerpt.Explain(flow)
	now := explanation.Ingress
	if rule.Direction == policy.Egress {
		now = explanation.Egress
	}
	was = fmt.Sprintf(was, subject, rule)
	if now.Pod == nil || isolated.Pod != "" && now.Pod.String() != isolated.Pod {
		return was + "; the pod no longer has the address"
	}
	if rule.audit {
		switch {
		case !now.Allowed:
			return was + "; the current policies block it"
		case now.Audit != nil:
			now, excerpt = *now.Audit, excerpt.AllEnforced()
		}
	}
	verdicts := []*policy.ClusterVerdict{now.Admin, now.Baseline}
	i := slices.IndexFunc(verdicts, func(v *policy.ClusterVerdict) bool {
		return v != nil && v.Action == v1alpha2.ClusterNetworkPolicyRuleActionDeny &&
			v.ClusterRuleRef == rule.ClusterRuleRef
	})
	switch {
	case now.Allowed:
		return was + "; the current policies allow it"
	case i < 0:
		return was + "; another policy denies it now"
	case verdicts[i].Fault != "":
		return fmt.Sprintf("%s, as it is not valid: %s", plain, short(verdicts[i].Fault))
	}
	near := excerpt.NearestInTier(flow, rule.Direction, rule.Tier)
	if near == nil {
		return plain
	}
	return fmt.Sprintf("%s (nearest: %s: %s)", plain, near.ClusterRuleRef, short(near.Reason))
}

// tierRule returns the rule of a ClusterNetworkPolicy that a chain stands for; false for other chains.
func (l *Log) tierRule(chain string) (rule tierRule, ok bool) {
	r, ok := frame.ParseTierRule(chain)
	if ok {
		l.config.View(func(s *translate.State) { rule.ClusterRuleRef, _ = s.TierRuleOf(chain) })
	}
	rule.audit = r.Tier.Audit()
	return rule, ok
}

// short truncates text that others choose.
func short(text string) string {
	if len(text) > maxNearest {
		return text[:maxNearest] + "…"
	}
	return text
}
