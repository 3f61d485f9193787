// SPDX-License-Identifier: Apache-2.0

package nft

// Refused is the error of a transaction that cannot be, as it is: it has no encoding, or the kernel does not take it.
// That the kernel could not be asked, or its answer was lost, is no Refused.
type Refused struct {
	// what is to blame, in the order of the transaction, at most [MaxRefusals]; empty if that is not known
	Refusals []Refusal
	Cause    Cause // without refusals
	Err      error // in words
}

// MaxRefusals is how many operations of a transaction are named in its error.
const MaxRefusals = 256

// Refusal is one operation of a transaction that was refused.
type Refusal struct {
	Op    Op // of many elements only the one that is to blame, if that is known
	Cause Cause
	Err   error
}

// Cause is what a refusal means.
type Cause uint8

// The causes of refusals.
const (
	Unfit    Cause = iota // such an object cannot be
	Mismatch              // the rest of the table is not as it should be: perhaps somebody else changed it
	Shortage              // there is no memory, now
)

// Error returns the refusal in one line.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns what Err is.
func (r *Refused) Unwrap() error { return r.Err }

// Add names one more operation, unless there are too many. A negative element is all of them.
func (r *Refused) Add(op Op, element int, cause Cause, err error) {
	if len(r.Refusals) == MaxRefusals {
		return
	}
	if element >= 0 && element < len(op.Elements) {
		op.Elements = op.Elements[element : element+1]
	}
	r.Refusals = append(r.Refusals, Refusal{op, cause, err})
}

// maxObject is the length in bytes that the name of an object is cut to: a rule can have hundreds of ports.
const maxObject = 200

// String names what was refused and says why. It has no comments of elements: those name the pods of other namespaces.
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
