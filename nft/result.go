// SPDX-License-Identifier: Apache-2.0

package nft

// Counted is an element as the kernel holds it, or held it until it was deleted.
type Counted struct {
	Element
	Packets uint64 // that matched it; zero in sets whose type does not count
	Left    uint64 // milliseconds that an element of a dynamic set stays without another packet
}

// HeldRule is a rule as the kernel holds it, held against the one that should be at its place in the chain.
type HeldRule struct {
	Handle uint64 // the kernel's number of it, which `nft -a list chain` shows
	Same   bool   // it does what the other one does; comments and counts do not matter
}

// Result is what the kernel says of a transaction that it has committed.
type Result struct {
	// Deleted has the elements that were deleted from sets that count, by set: with what they have counted, to the last
	// packet.
	Deleted map[string][]Counted
}

// Add takes the result of a later transaction into r.
func (r *Result) Add(later Result) {
	if r.Deleted == nil {
		r.Deleted = later.Deleted
		return
	}
	for set, elements := range later.Deleted {
		r.Deleted[set] = append(r.Deleted[set], elements...)
	}
}
