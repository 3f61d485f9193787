// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// DeniedSet is a set of isolated pods of the node, whose elements count what is denied in a direction. The comment of
// an element is the pod, as namespace/name.
type DeniedSet struct {
	Name      string
	Type      nft.SetType
	Direction policy.Direction
	Tier      string // that denies: "Admin", "Baseline" or "NetworkPolicy"; "" for the guard
	Audit     bool   // counts what would be denied if audited policies were enforced
}

// counterType is the type of a set that counts by addresses.
func counterType(f nft.Family) nft.SetType {
	return nft.SetType{Family: f, Fields: nft.Addr, Counter: true}
}

// eachSet returns the sets that one returns for each direction and family.
func eachSet(one func(d policy.Direction, f nft.Family) DeniedSet) []DeniedSet {
	var sets []DeniedSet
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			sets = append(sets, one(d, f))
		}
	}
	return sets
}

// UnknownSets returns the sets that count the guard's drops. A table has them while it has a guard.
func UnknownSets() []DeniedSet {
	return eachSet(func(d policy.Direction, f nft.Family) DeniedSet {
		typ := nft.SetType{Family: f, Fields: nft.AddrRange, Counter: true}
		return DeniedSet{Name: unknownChain(d) + "-" + f.String(), Type: typ, Direction: d}
	})
}

// tierSets returns the sets that count what tiers deny, or would. A table has those of a tier and direction while pods
// of the node are subjects.
func tierSets(tiers ...Tier) []DeniedSet {
	var sets []DeniedSet
	for _, t := range tiers {
		sets = append(sets, eachSet(func(d policy.Direction, f nft.Family) DeniedSet {
			return DeniedSet{
				Name: tierSet(t, d, f), Type: counterType(f), Direction: d, Tier: t.String(), Audit: t.Audit(),
			}
		})...)
	}
	return sets
}

// CountingSets returns all sets that count what is or would be denied: those of isolated pods, which every table has,
// the guard, the tiers, and audited pods.
func CountingSets() []DeniedSet {
	denied := eachSet(func(d policy.Direction, f nft.Family) DeniedSet {
		return DeniedSet{Name: deniedSet(d, f), Type: counterType(f), Direction: d, Tier: "NetworkPolicy"}
	})
	audited := eachSet(func(d policy.Direction, f nft.Family) DeniedSet {
		typ := counterType(f)
		return DeniedSet{Name: auditedSet(d, f), Type: typ, Direction: d, Tier: "NetworkPolicy", Audit: true}
	})
	return slices.Concat(denied, UnknownSets(), tierSets(Admin, Baseline), audited, tierSets(AuditAdmin, AuditBaseline))
}
