// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"maps"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Quarantine sets aside an isolation, a list of the tiers or, in one direction, a pod's address.
//
// The pods of the isolation stay isolated, by a chain of another name without sets, and are allowed only what always
// is. Everything in the table that only the isolation needs is removed. The address is in none of the usual sets and
// maps, but in a set of its own, which denies everything to or from it except what is always allowed.
type Quarantine struct {
	Key    string // of the isolation, the list or the address: see [Ownership]
	Reason string // "" while it is only a suspect, which is not reported
	Open   bool   // the denying set refused the address, too: no policy is enforced for it
}

// Record is what is known about a quarantine. It is kept while its policies stay the same, since pods come and go.
type Record struct {
	Quarantine
	Kind     frame.Kind // of the isolation when it was set aside
	Address  netip.Addr // not valid for an isolation or a list
	Policies []types.NamespacedName
	Released bool // being retried; the outcome is not known yet
}

// Book has what is set aside or not yet absolved, by key.
type Book map[string]*Record

// At returns what is set aside at a key, or nil.
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

// Absolve forgets what was released, and returns how many that were.
func (b Book) Absolve() int {
	before := len(b)
	maps.DeleteFunc(b, func(_ string, r *Record) bool { return r.Released })
	return before - len(b)
}
