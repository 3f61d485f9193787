// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// DeniedSet is a set of the isolated pods of the node, in whose elements the kernel counts what is denied in a
// direction. The comment of an element is the pod, as namespace/name.
type DeniedSet struct {
	Name      string
	Type      nft.SetType
	Direction policy.Direction
	Tier      string // whose rule denies, as "Admin"; "NetworkPolicy"; "" is the guard
	Audit     bool   // nothing is denied, but would be, were audited policies enforced
}

// DeniedSets returns the sets that count, which every table has.
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

// UnknownSets returns the sets that count what the guard drops. A table has them while it has a guard.
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

// CountingSets returns all sets that count what is denied or dropped, or would be: those of isolated pods, the guard's,
// those of the tiers, and those of audited pods.
func CountingSets() []DeniedSet {
	return slices.Concat(DeniedSets(), UnknownSets(), TierSets(), AuditedSets())
}
