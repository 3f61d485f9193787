// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// owner is what an isolation and a list have in common: a chain and what it leads to, which local pods share because
// the same policies apply to them, and which is quarantined as a whole.
type owner struct {
	key      string // of its quarantine; for a stand-in see [aside.StandInKey]
	name     string // of the chain
	kind     frame.Kind
	policies []types.NamespacedName // of an isolation sorted; of a list in order of evaluation, without namespace
	users    map[*identity]struct{}

	// quarantine is set for a stand-in: an isolation that allows nothing, or a list that denies everything.
	quarantine *aside.Record
}

// discarder is an isolation or a list.
type discarder interface {
	own() *owner
	discard(s *State)
}

func (o *owner) own() *owner { return o }

// unaudited says whether it stands in for an auditing one, and so is left out.
func (o *owner) unaudited() bool { return o.kind.Audit && o.quarantine != nil }

// chain is the name of the chain; "" if it is left out.
func (o *owner) chain() string {
	if o.unaudited() {
		return ""
	}
	return o.name
}

// leave removes id from the users of an isolation or list.
func (s *State) leave(id *identity, from discarder) {
	delete(from.own().users, id)
	if len(from.own().users) == 0 {
		s.orphans[from] = struct{}{}
	}
}

// ownerOf returns the isolation or list with a key, or nil.
func (s *State) ownerOf(key string) *owner {
	if iso := s.isolations[key]; iso != nil {
		return &iso.owner
	}
	if l := s.lists[key]; l != nil {
		return &l.owner
	}
	return nil
}

// ownerAt returns an isolation or list that applies, in a direction, to this node's pod at an address, or nil;
// preferably one that decides.
func (s *State) ownerAt(d policy.Direction, a netip.Addr) *owner {
	if iso := s.isolationAt(d, a); iso != nil {
		return &iso.owner
	}
	if l := cmp.Or(s.localAt(a).lists[d][:]...); l != nil {
		return &l.owner
	}
	return nil
}

// isolationAt returns the isolation in a direction of this node's pod at an address, or its shadow, or nil.
func (s *State) isolationAt(d policy.Direction, a netip.Addr) *isolation {
	here := s.localAt(a)
	return cmp.Or(here.isolations[d], here.shadows[d])
}

// localAt returns what follows for this node's pod at an address, which is nothing if there is none.
func (s *State) localAt(a netip.Addr) *local {
	if p := s.index.Owner(a); p != nil && s.index.IsLocal(p) {
		return p.Identity.Own.here()
	}
	return new(local)
}
