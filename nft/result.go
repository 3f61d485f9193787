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

// Refused is the error of a transaction that is impossible as it is: it has no encoding, or the kernel does not take
// it. If the kernel could not be reached, or its answer was lost, that is not a Refused.
type Refused struct {
	// the culprits, in the order of the transaction, at most [MaxRefusals]; empty if not known
	Refusals []Refusal
	Cause    Cause // if there are no refusals
	Err      error // in words
}

// MaxRefusals is how many operations of a transaction are named in its error.
const MaxRefusals = 256

// Refusal is one operation of a transaction that was refused.
type Refusal struct {
	Op    Op // with only the culprit of many elements, if known
	Cause Cause
	Err   error
}

// Cause is what a refusal means.
type Cause uint8

// The causes of refusals.
const (
	Unfit    Cause = iota // such an object is impossible
	Mismatch              // the rest of the table is not as expected: perhaps another program changed it
	Shortage              // no memory at the moment
)

// Error returns the refusal in one line.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns what Err is.
func (r *Refused) Unwrap() error { return r.Err }

// Add names one more operation, unless there are too many. A negative element means all elements.
func (r *Refused) Add(op Op, element int, cause Cause, err error) {
	if len(r.Refusals) == MaxRefusals {
		return
	}
	if element >= 0 && element < len(op.Elements) {
		op.Elements = op.Elements[element : element+1]
	}
	r.Refusals = append(r.Refusals, Refusal{op, cause, err})
}

// maxObject is the length in bytes to which an object's name is cut: a rule can have hundreds of ports.
const maxObject = 200

// String names what was refused and says why. It leaves out comments of elements, which name pods of other namespaces.
func (r Refusal) String() string {
	object := r.Op.Describe()
	if len(r.Op.Elements) == 1 {
		object += " { " + r.Op.Elements[0].Text(r.Op.Set.Type) + " }"
	}
	if len(object) > maxObject {
		object = object[:maxObject] + "..."
	}
	return object + ": " + r.Err.Error()
}
