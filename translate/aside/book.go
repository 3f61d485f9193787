// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"maps"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Quarantine sets aside an isolation, a list of the tiers or, for one direction, an address of a pod.
//
// The pods of the isolation are isolated as before, by a chain of another name and without sets, and nothing is allowed
// to them but what always is. Nothing of the table is left that only the isolation needs. The address is in no set or
// map of every table, but in a set of its own, by which all is denied to it or from it that is not always allowed.
type Quarantine struct {
	Key    string // of the isolation, the list or the address: see [Ownership]
	Reason string // "" while it is only suspected: then it is no trouble that anybody is told of
	Open   bool   // the address is in no set that denies it either, which was refused too: no policy is enforced there
}

// Record is what is known of a quarantine. It is remembered while its policies are as they are: pods come and go.
type Record struct {
	Quarantine
	Kind     frame.Kind // of the isolation, when it was set aside
	Address  netip.Addr // not valid: an isolation or a list is set aside
	Policies []types.NamespacedName
	Released bool // it is tried again, and it is not known yet how that ends
}

// Book is what is set aside, or was not absolved yet, by key.
type Book map[string]*Record

// At returns what is set aside by a key, or nil.
func (b Book) At(key string) *Record {
	if r := b[key]; r != nil && !r.Released {
		return r
	}
	return nil
}

// AtAddress returns the quarantine of an address in a direction, or nil.
func (b Book) AtAddress(d policy.Direction, a netip.Addr) *Record {
	if len(b) == 0 {
		return nil
	}
	return b.At(AddressKey(d, a))
}

// Absolve forgets what was released, and says how much that was.
func (b Book) Absolve() int {
	before := len(b)
	maps.DeleteFunc(b, func(_ string, r *Record) bool { return r.Released })
	return before - len(b)
}
