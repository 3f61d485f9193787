// SPDX-License-Identifier: Apache-2.0

package nft

// PerObject is the weight of a chain, set or rule.
const PerObject = 10

// Weight measures how long the kernel takes for the operation: an element weighs 1, an interval 2, for its two ends,
// and a chain, set or rule PerObject.
func (op Op) Weight() int {
	if len(op.Elements) > 0 {
		return len(op.Elements) * op.Set.Type.Weight()
	}
	weight := PerObject
	if op.Rule != nil {
		for _, statement := range op.Rule.Statements {
			if ports, ok := statement.(Ports); ok {
				// a set: the kernel searches for its name among all others
				weight += 5*PerObject + len(ports)*PerObject/2
			}
		}
	}
	return weight
}

// Weight is the weight of an element of a set.
func (t SetType) Weight() int {
	if t.Interval() {
		return 2
	}
	return 1
}
