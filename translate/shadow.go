// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// asked says which tiers may have rules for the pods of a local identity in a direction, by tier; none of another one.
// Those that audit are asked all or not at all: what audited rules change, a later one may decide that is enforced.
// Next to NetworkPolicies, no rule of tier Baseline counts.
func (s *State) asked(id *identity, d policy.Direction) (tiers [4]bool) {
	if len(id.Local) == 0 {
		return tiers
	}
	iso, rules := id.Own.isolations[d], s.clusterPolicies.Auditing(d, id.In)
	free := iso == nil && id.Own.shadows[d] == nil
	audits := rules.Of[frame.Admin] || rules.Of[frame.Baseline] && free
	return [...]bool{
		frame.Admin: true, frame.Baseline: iso == nil || iso.kind.Audit,
		frame.AuditAdmin: audits, frame.AuditBaseline: audits && free,
	}
}

// unaudited says whether the list stands in for one that only audits: then it is left out.
func (l *list) unaudited() bool { return l.Tier.Audit() && l.quarantine != nil }

// kind is what the list is there for.
func (l *list) kind() frame.Kind { return frame.Kind{Direction: l.Direction, Audit: l.Tier.Audit()} }

// all returns the isolations and shadows of the pods; some may be nil.
func (h *held) all() []*isolation { return slices.Concat(h.isolations[:], h.shadows[:]) }

// setBeside notes the audited policies that select the pods in a direction beside enforced ones.
func (h *held) setBeside(d policy.Direction, audited []types.NamespacedName) {
	switch {
	case h.audited != nil:
		h.audited[d] = audited
	case len(audited) > 0:
		h.audited = new([2][]types.NamespacedName)
		h.audited[d] = audited
	}
}

// decided says whether anything that is enforced is asked about the pods in a direction.
func (h *held) decided(d policy.Direction) bool {
	iso := h.isolations[d]
	return iso != nil && !iso.kind.Audit || h.lists[d][frame.Admin] != nil || h.lists[d][frame.Baseline] != nil
}

// audits says whether anything that is only audited is.
func (h *held) audits(d policy.Direction) bool {
	iso := h.isolations[d]
	return iso != nil && iso.kind.Audit || h.shadows[d] != nil ||
		h.lists[d][frame.AuditAdmin] != nil || h.lists[d][frame.AuditBaseline] != nil
}

// tierWay adds to a way what the tiers have for the pods in a direction. Of what is audited, nothing after a tier that
// is left out is asked.
func (h *held) tierWay(d policy.Direction, way *frame.Way) {
	for _, t := range frame.AllTiers() {
		if l := h.lists[d][t]; l != nil && !l.unaudited() {
			way.Tiers[t] = l.name
		}
	}
	if shadow := h.shadows[d]; shadow != nil && !shadow.unaudited() {
		way.Shadow = shadow.name
	}
	if admin := h.lists[d][frame.AuditAdmin]; admin != nil && admin.unaudited() {
		way.Shadow, way.Tiers[frame.AuditBaseline] = "", ""
	}
}
