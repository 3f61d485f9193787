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

// DeniedSets returns the counting sets of every table.
func DeniedSets() []DeniedSet {
	var sets []DeniedSet
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			typ := nft.SetType{Family: f, Fields: nft.Addr, Counter: true}
			sets = append(sets, DeniedSet{Name: deniedSet(d, f), Type: typ, Direction: d, Tier: "NetworkPolicy"})
		}
	}
	return sets
}

// UnknownSets returns the sets that count the guard's drops. A table has them while it has a guard.
func UnknownSets() []DeniedSet {
	var sets []DeniedSet
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			typ := nft.SetType{Family: f, Fields: nft.AddrRange, Counter: true}
			sets = append(sets, DeniedSet{Name: unknownChain(d) + "-" + f.String(), Type: typ, Direction: d})
		}
	}
	return sets
}

// CountingSets returns all sets that count what is or would be denied: those of isolated pods, the guard, the tiers,
// and audited pods.
func CountingSets() []DeniedSet {
	return slices.Concat(DeniedSets(), UnknownSets(), TierSets(), AuditedSets())
}
