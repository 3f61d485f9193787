// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
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
	of := s.ownerOf(q.Key)
	if d, a, ok := aside.AddressOf(q.Key); ok {
		next.Address, of = a, s.ownerAt(d, a)
	}
	switch old := s.quarantines[q.Key]; {
	case old != nil:
		next.Kind, next.Policies, next.Reason = old.Kind, old.Policies, cmp.Or(q.Reason, old.Reason)
		s.renew(old)
	case of != nil:
		next.Kind, next.Policies = of.kind, of.policies
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
		if o := s.ownerOf(key); o != nil {
			maps.Copy(s.dirtyIdentities, o.users)
		}
	}
}

// endQuarantines releases what is set aside because of a policy that changes.
func (s *State) endQuarantines(name types.NamespacedName) {
	for key, q := range s.quarantines {
		if slices.Contains(q.Policies, name) {
			s.Release(key)
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
		if l.kind.Audit {
			kind = book.Unaudited
		}
		if q := l.aside(); q != nil && l.quarantine == nil &&
			!yield(book.Trouble{Kind: kind, Policies: l.policies, Reason: l.Direction.String() + ": " + q.Reason}) {
			return
		}
	}
}

// inUse says whether anything has what a quarantine has set aside.
func (s *State) inUse(q *aside.Record) bool {
	return s.ownerOf(q.Key) != nil || s.ownerOf(aside.StandInKey(q.Key)) != nil ||
		q.Address.IsValid() && s.ownerAt(q.Kind.Direction, q.Address) != nil
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
				add(l.kind, q)
				all[len(all)-1].Tier = v1alpha2.Tier(l.Tier.String())
			}
		}
	}
	return all
}

// Ownership returns who owns what in the current table. Its cost is proportional to the whole table.
func (s *State) Ownership() *aside.Ownership {
	var owners []aside.Owner
	add := func(o *owner) {
		owners = append(owners, aside.Owner{Key: o.key, Chain: o.name, Kind: o.kind,
			StandsIn: o.quarantine != nil, Addresses: index.LocalAddresses(o.users)})
	}
	for _, iso := range s.isolations {
		add(&iso.owner)
	}
	for _, l := range s.lists {
		add(&l.owner)
	}
	return aside.NewOwnership(s.frame, owners, s.quarantines, func(d policy.Direction, a netip.Addr) bool {
		return s.ownerAt(d, a) != nil
	})
}
