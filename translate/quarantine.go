// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/index"
	"github.com/netpold/netpold/translate/policy"
)

// Quarantine sets something aside until one of its policies changes, or [State.Release].
func (s *State) Quarantine(q aside.Quarantine) {
	next := &aside.Record{Quarantine: q}
	iso, l := s.isolations[q.Key], s.listAside(q.Key)
	if d, a, ok := aside.AddressOf(q.Key); ok {
		next.Address, iso = a, s.isolationAt(d, a)
		l = s.listAt(d, a)
	}
	switch old := s.quarantines[q.Key]; {
	case old != nil:
		next.Kind, next.Policies, next.Reason = old.Kind, old.Policies, cmp.Or(q.Reason, old.Reason)
		s.renew(old)
	case iso != nil:
		next.Kind, next.Policies = iso.kind, iso.policies
	case l != nil:
		next.Kind, next.Policies = l.kind(), l.policies
	default: // its pods are gone
		return
	}
	s.quarantines[q.Key] = next
	s.renew(next)
}

// Release lets what is set aside be made again. Until [State.Absolve] it remains a trouble.
func (s *State) Release(keys ...string) {
	for _, key := range keys {
		if q := s.quarantines[key]; q != nil && !q.Released {
			q.Released = true
			s.renew(q)
		}
	}
}

// Absolve forgets released quarantines: the kernel took what was tried again.
func (s *State) Absolve() {
	s.troubleVersion += uint64(s.quarantines.Absolve())
}

// Quarantined says whether something is set aside or not yet absolved.
func (s *State) Quarantined(key string) bool { return s.quarantines[key] != nil }

// renew marks the identities with a quarantine's isolation, or its stand-in, to find their isolations again.
func (s *State) renew(q *aside.Record) {
	s.troubleVersion++
	if q.Address.IsValid() {
		if p := s.index.Owner(q.Address); p != nil && s.index.IsLocal(p) {
			s.setDispatch(q.Address, p)
		}
		return
	}
	for _, key := range []string{q.Key, aside.StandInKey(q.Key)} {
		if iso := s.isolations[key]; iso != nil {
			for id := range iso.users {
				s.dirtyIdentities[id] = struct{}{}
			}
		}
		if l := s.listAside(key); l != nil {
			for id := range l.users {
				s.dirtyIdentities[id] = struct{}{}
			}
		}
	}
}

// endQuarantines releases what is set aside because of a policy that changes.
func (s *State) endQuarantines(name types.NamespacedName) {
	for _, q := range s.quarantines {
		if slices.Contains(q.Policies, name) {
			q.Released = true
			s.renew(q)
		}
	}
}

// noteQuarantined tracks stand-ins that come or go: their users are in trouble.
func (s *State) noteQuarantined(iso *isolation) {
	if iso.quarantine != nil {
		s.troubleVersion++
	}
}

// quarantined yields the quarantines that matter: their isolation or address is in use.
func (s *State) quarantined(yield func(book.Trouble) bool) {
	for _, q := range s.quarantines {
		d, audit := q.Kind.Direction, q.Kind.Audit
		t := book.Trouble{Kind: book.Quarantined, Policies: q.Policies, Reason: d.String() + ": " + q.Reason}
		if iso := s.isolationAt(d, q.Address); iso != nil {
			t.Policies, t.Reason = iso.policies, fmt.Sprintf("%s of pod %s (%s): %s",
				d, s.index.Owner(q.Address).Text, q.Address, q.Reason)
		} else if !s.inUse(q) {
			continue
		}
		if q.Address.IsValid() {
			audit = !s.index.Owner(q.Address).Identity.Own.here().decided(d)
		}
		switch {
		case audit:
			t.Kind = book.Unaudited
		case q.Open:
			t.Kind = book.Unenforced
		}
		if q.Reason != "" && !yield(t) {
			return
		}
	}
	for _, l := range s.lists {
		kind := book.Quarantined
		if l.Tier.Audit() {
			kind = book.Unaudited
		}
		if q := l.aside(); q != nil && l.quarantine == nil &&
			!yield(book.Trouble{Kind: kind, Policies: l.policies, Reason: l.Direction.String() + ": " + q.Reason}) {
			return
		}
	}
}

// quarantinesOf returns what is set aside for a pod: its addresses, then its isolations.
func (s *State) quarantinesOf(p *pod) []policy.PodQuarantine {
	if !s.index.IsLocal(p) {
		return nil
	}
	var all []policy.PodQuarantine
	own := p.Identity.Own.here()
	add := func(k frame.Kind, q *aside.Record) {
		reason := cmp.Or(q.Reason, "the kernel refused something, not yet known what")
		all = append(all, policy.PodQuarantine{
			Pod: p.Public().NamespacedName, Direction: k.Direction, Address: q.Address, Reason: reason,
			Open: q.Open && !k.Audit, Audit: k.Audit,
		})
	}
	for _, a := range p.Claims() {
		for _, d := range policy.Directions() {
			q := s.quarantines.AtAddress(d, a)
			if q == nil || s.index.Owner(a) != p {
				continue
			}
			if own.decided(d) {
				add(frame.Kind{Direction: d}, q)
			}
			if own.audits(d) {
				add(frame.Kind{Direction: d, Audit: true}, q)
			}
		}
	}
	for _, iso := range own.all() {
		if iso != nil && iso.quarantine != nil {
			add(iso.kind, iso.quarantine)
		}
	}
	for _, lists := range own.lists {
		for _, l := range lists {
			if q := l.aside(); q != nil {
				add(l.kind(), q)
				all[len(all)-1].Tier = v1alpha2.Tier(l.Tier.String())
			}
		}
	}
	return all
}

// isolationAt returns the isolation in a direction of this node's pod at an address, or its shadow, or nil.
func (s *State) isolationAt(d policy.Direction, a netip.Addr) *isolation {
	if p := s.index.Owner(a); p != nil && s.index.IsLocal(p) {
		here := p.Identity.Own.here()
		return cmp.Or(here.isolations[d], here.shadows[d])
	}
	return nil
}

// Ownership returns who owns what in the current table. Its cost is proportional to the whole table.
func (s *State) Ownership() *aside.Ownership {
	var owners []aside.Owner
	for _, iso := range s.isolations {
		owners = append(owners, aside.Owner{Key: iso.key, Chain: iso.name, Kind: iso.kind,
			StandsIn: iso.quarantine != nil, Addresses: index.LocalAddresses(iso.users)})
	}
	for _, l := range s.lists {
		owners = append(owners, aside.Owner{Key: aside.ListKey(l.key), Chain: l.name,
			Kind: l.kind(), StandsIn: l.quarantine != nil, Addresses: index.LocalAddresses(l.users)})
	}
	return aside.NewOwnership(s.frame, owners, s.quarantines, func(d policy.Direction, a netip.Addr) bool {
		return s.isolationAt(d, a) != nil || s.listAt(d, a) != nil
	})
}
