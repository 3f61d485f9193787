// SPDX-License-Identifier: Apache-2.0

package nft

// Counted is an element as the kernel holds it, or held it before its deletion.
type Counted struct {
	Element
	Packets uint64 // that matched it; zero in sets whose type does not count
	Left    uint64 // milliseconds left for an element of a dynamic set without another packet
}

// HeldRule is a rule as the kernel holds it, compared with the one that should be at its place in the chain.
type HeldRule struct {
	Handle uint64 // the kernel's number for it, as in `nft -a list chain`
	Same   bool   // does the same; comments and counts do not matter
}

// Result is what the kernel reports about a committed transaction.
type Result struct {
	// Deleted has the elements deleted from counting sets, by set, with their exact final counts.
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
