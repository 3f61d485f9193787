// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// tierRule is a rule of a ClusterNetworkPolicy that denies, or would if enforced.
type tierRule struct {
	policy.ClusterRuleRef
	audit bool
}

func (t tierRule) direction() policy.Direction { return t.Direction }

func (tierRule) flow(p Packet) policy.Flow {
	flow := p.Flow
	flow.Service = flow.Src == flow.Dst // otherwise it would never have left the pod
	return flow
}

func (t tierRule) note(r *Record) {
	r.Tier, r.Policies, r.Audit = string(t.Tier), []string{t.Policy}, t.audit
}

func (t tierRule) why(r *Record, flow policy.Flow, excerpt *policy.Cluster) string {
	is, was := "blocked: %s: %s denies", "was blocked: %s: %s denied"
	if t.audit {
		is, was = "would be blocked: %s: %s denies", "would have been blocked: %s: %s denied"
	}
	plain := fmt.Sprintf(is, r.subject(), t)
	if excerpt == nil {
		return plain
	}
	now, there := r.now(flow, excerpt)
	was = fmt.Sprintf(was, r.subject(), t)
	if !there {
		return was + "; the pod no longer has the address"
	}
	if t.audit {
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
			v.ClusterRuleRef == t.ClusterRuleRef
	})
	switch {
	case now.Allowed:
		return was + "; the current policies allow it"
	case i < 0:
		return was + "; another policy denies it now"
	case verdicts[i].Fault != "":
		return fmt.Sprintf("%s, as it is not valid: %s", plain, short(verdicts[i].Fault))
	}
	near := excerpt.NearestInTier(flow, t.Direction, t.Tier)
	if near == nil {
		return plain
	}
	return fmt.Sprintf("%s (nearest: %s: %s)", plain, near.ClusterRuleRef, short(near.Reason))
}

// short truncates text that others choose.
func short(text string) string {
	if len(text) > maxNearest {
		return text[:maxNearest] + "…"
	}
	return text
}
