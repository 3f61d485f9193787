// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// asked says which tiers may have rules for the pods of a local identity in a direction, by tier. Auditing tiers apply
// all or not at all: what audited rules change may be decided by a later enforced one. Beside NetworkPolicies, no rule
// of tier Baseline counts.
func (s *State) asked(id *identity, d policy.Direction) [4]bool {
	iso, rules := id.Own.local.isolations[d], s.clusterPolicies.Auditing(d, id.In)
	free := iso == nil && id.Own.local.shadows[d] == nil
	audits := rules.Of[frame.Admin] || rules.Of[frame.Baseline] && free
	return [...]bool{
		frame.Admin: true, frame.Baseline: iso == nil || iso.kind.Audit,
		frame.AuditAdmin: audits, frame.AuditBaseline: audits && free,
	}
}

// all returns the isolations and shadows of the pods; some may be nil.
func (here *local) all() []*isolation { return slices.Concat(here.isolations[:], here.shadows[:]) }

// setBeside notes the audited policies that select the pods in a direction beside enforced ones.
func (here *local) setBeside(d policy.Direction, audited []types.NamespacedName) {
	switch {
	case here.audited != nil:
		here.audited[d] = audited
	case len(audited) > 0:
		here.audited = new([2][]types.NamespacedName)
		here.audited[d] = audited
	}
}

// decided says whether anything enforced applies to the pods in a direction.
func (here *local) decided(d policy.Direction) bool {
	iso := here.isolations[d]
	return iso != nil && !iso.kind.Audit || here.lists[d][frame.Admin] != nil || here.lists[d][frame.Baseline] != nil
}

// audits says whether anything audited does.
func (here *local) audits(d policy.Direction) bool {
	iso := here.isolations[d]
	return iso != nil && iso.kind.Audit || here.shadows[d] != nil ||
		here.lists[d][frame.AuditAdmin] != nil || here.lists[d][frame.AuditBaseline] != nil
}

// way returns how the pods' traffic is decided in a direction. Nothing audited applies after a tier that is left out.
func (here *local) way(d policy.Direction) frame.Way {
	var way frame.Way
	if iso := here.isolations[d]; iso != nil {
		way.Chain, way.Audit = iso.chain(), iso.kind.Audit
	}
	if shadow := here.shadows[d]; shadow != nil {
		way.Shadow = shadow.chain()
	}
	for t, l := range here.lists[d] {
		if l != nil {
			way.Tiers[t] = l.chain()
		}
	}
	if admin := here.lists[d][frame.AuditAdmin]; admin != nil && admin.unaudited() {
		way.Shadow, way.Tiers[frame.AuditBaseline] = "", ""
	}
	return way
}
