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

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Quarantine sets aside an isolation, a list of the tiers or, for one direction, an address of a pod.
//
// The pods of the isolation are isolated as before, by a chain of another name and without sets, and nothing is allowed
// to them but what always is. Nothing of the table is left that only the isolation needs. The address is in no set or
// map of every table, but in a set of its own, by which all is denied to it or from it that is not always allowed.
type Quarantine struct {
	Key    string // of the isolation, or of the address: see [Ownership]
	Reason string // "" while it is only suspected: then it is no trouble that anybody is told of
	Open   bool   // the address is in no set that denies it either, which was refused too: no policy is enforced there
}

// quarantine is what the state knows of one. It is remembered while its policies are as they are: pods come and go.
type quarantine struct {
	Quarantine
	kind     frame.Kind // of the isolation, when it was set aside
	address  netip.Addr // not valid: an isolation is set aside
	policies []types.NamespacedName
	released bool // it is tried again, and it is not known yet how that ends
}

// standInKey is that of the isolation that stands in for the one that is set aside. No isolation's own key ends so.
func standInKey(key string) string { return key + "\n\nquarantined" }

// Quarantine sets something aside until one of its policies changes, or [State.Release].
func (s *State) Quarantine(q Quarantine) {
	next := &quarantine{Quarantine: q}
	iso, l := s.isolations[q.Key], s.listAside(q.Key)
	if d, a, ok := ofAddress(q.Key); ok {
		next.address, iso = a, s.isolationAt(d, a)
		l = s.listAt(d, a)
	}
	switch old := s.quarantines[q.Key]; {
	case old != nil:
		next.kind, next.policies, next.Reason = old.kind, old.policies, cmp.Or(q.Reason, old.Reason)
		s.renew(old)
	case iso != nil:
		next.kind, next.policies = iso.kind, iso.policies
	case l != nil:
		next.kind, next.policies = frame.Kind{Direction: l.Direction}, l.policies
	default: // its pods have gone since
		return
	}
	s.quarantines[q.Key] = next
	s.renew(next)
}

// Release lets be made again what is set aside. Until [State.Absolve] they remain the troubles that they are.
func (s *State) Release(keys ...string) {
	for _, key := range keys {
		if q := s.quarantines[key]; q != nil && !q.released {
			q.released = true
			s.renew(q)
		}
	}
}

// Absolve forgets the quarantines that were released: the kernel has taken what was tried again.
func (s *State) Absolve() {
	maps.DeleteFunc(s.quarantines, func(_ string, q *quarantine) bool {
		if q.released {
			s.troubleVersion++
		}
		return q.released
	})
}

// Quarantined says whether something is set aside, or was not absolved yet.
func (s *State) Quarantined(key string) bool { return s.quarantines[key] != nil }

// renew has the isolations found anew of whoever has the isolation of a quarantine, or the one that stands in for it.
func (s *State) renew(q *quarantine) {
	s.troubleVersion++
	if q.address.IsValid() {
		if p := s.index.Owner(q.address); p != nil && s.index.IsLocal(p) {
			s.setDispatch(q.address, p)
		}
		return
	}
	for _, key := range []string{q.Key, standInKey(q.Key)} {
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

// endQuarantines releases what is set aside of a policy that changes.
func (s *State) endQuarantines(name types.NamespacedName) {
	for _, q := range s.quarantines {
		if slices.Contains(q.policies, name) {
			q.released = true
			s.renew(q)
		}
	}
}

// standIn returns the quarantine of that key, nil if nothing is set aside.
func (s *State) standIn(key string) *quarantine {
	if q := s.quarantines[key]; q != nil && !q.released {
		return q
	}
	return nil
}

// noteQuarantined keeps account of an isolation that comes or goes: who has the one that stands in is in trouble.
func (s *State) noteQuarantined(iso *isolation) {
	if iso.quarantine != nil {
		s.troubleVersion++
	}
}

// quarantined yields the quarantines that matter: somebody has the isolation, or the address.
func (s *State) quarantined(yield func(Trouble) bool) bool {
	for _, q := range s.quarantines {
		d, audit := q.kind.Direction, q.kind.Audit
		t := Trouble{Quarantined, q.policies, d.String() + ": " + q.Reason}
		if iso := s.isolationAt(d, q.address); iso != nil {
			audit = iso.kind.Audit
			t.Policies, t.Reason = iso.policies, fmt.Sprintf("%s of pod %s (%s): %s",
				d, s.index.Owner(q.address).Text, q.address, q.Reason)
		} else if !s.inUse(q) {
			continue
		}
		switch {
		case audit:
			t.Kind = Unaudited
		case q.Open:
			t.Kind = Unenforced
		}
		if q.Reason != "" && !yield(t) {
			return false
		}
	}
	for _, l := range s.lists {
		if q := l.aside(); q != nil && l.quarantine == nil &&
			!yield(Trouble{Quarantined, l.policies, l.Direction.String() + ": " + q.Reason}) {
			return false
		}
	}
	return true
}

// quarantinesOf returns what is set aside of a pod: its addresses, then its isolations.
func (s *State) quarantinesOf(p *pod) []policy.PodQuarantine {
	if !s.index.IsLocal(p) {
		return nil
	}
	var all []policy.PodQuarantine
	add := func(k frame.Kind, q *quarantine) {
		reason := cmp.Or(q.Reason, "the kernel refused something, not yet known what")
		all = append(all, policy.PodQuarantine{
			Pod: p.Public().NamespacedName, Direction: k.Direction, Address: q.address, Reason: reason,
			Open: q.Open && !k.Audit, Audit: k.Audit,
		})
	}
	for _, a := range p.Claims() {
		for _, d := range policy.Directions() {
			iso := p.Identity.Own.isolations[d]
			switch q := s.refusedAt(d, a); {
			case q == nil || s.index.Owner(a) != p:
			case iso != nil:
				add(iso.kind, q)
			case s.listAt(d, a) != nil:
				add(frame.Kind{Direction: d}, q)
			}
		}
	}
	for _, iso := range p.Identity.Own.isolations {
		if iso != nil && iso.quarantine != nil {
			add(iso.kind, iso.quarantine)
		}
	}
	for _, lists := range p.Identity.Own.lists {
		for _, l := range lists {
			if q := l.aside(); q != nil {
				add(frame.Kind{Direction: l.Direction}, q)
				all[len(all)-1].Tier = v1alpha2.Tier(l.Tier.String())
			}
		}
	}
	return all
}

// Ownership says which isolations, and which lists of the tiers, the objects of a table are there for.
type Ownership struct {
	state  *State
	sets   map[string][]string // the keys of their quarantines; "" is of what stands in for one that is set aside
	chains map[string][]string
	weight map[string]int
}

// Ownership returns who owns what in the table as it is. Its cost is that of the whole table.
func (s *State) Ownership() *Ownership {
	o := &Ownership{s, make(map[string][]string), make(map[string][]string), make(map[string]int)}
	add := func(chain, key string, q *quarantine) {
		reached := trace.Reach(s.table, chain, frame.Shared)
		if q != nil {
			key = ""
		} else {
			o.weight[key] = reached.Weight
		}
		for _, name := range reached.Sets {
			o.sets[name] = append(o.sets[name], key)
		}
		for _, name := range reached.Chains {
			o.chains[name] = append(o.chains[name], key)
		}
	}
	for _, iso := range s.isolations {
		add(iso.name, iso.key, iso.quarantine)
	}
	for _, l := range s.lists {
		add(l.name, listKey(l.key), l.quarantine)
	}
	return o
}

// Of returns what an operation would not be without, as quarantines without a reason; none for what every table has,
// what is deleted, and what is quarantined already. An element that every table has a set for is of the pod's address.
func (o *Ownership) Of(op nft.Op) []Quarantine {
	if all := o.closing(op); all != nil {
		return all
	}
	if op.Verb == nft.AddElements && o.sets[op.Set.Name] == nil && len(op.Elements) == 1 {
		return o.ofPod(op.Set.Name, op.Elements[0])
	}
	var all []Quarantine
	for _, key := range o.of(op) {
		if key != "" {
			all = append(all, Quarantine{Key: key})
		}
	}
	return all
}

// of returns the keys of what an operation would not be without.
func (o *Ownership) of(op nft.Op) []string {
	switch op.Verb {
	case nft.AddChain, nft.FlushChain, nft.AddRule:
		return o.ofAudit(op.Chain.Name, o.chains[op.Chain.Name])
	case nft.AddSet:
		return o.ofAudit(op.Set.Name, o.sets[op.Set.Name])
	case nft.AddElements:
		owners := o.sets[op.Set.Name]
		if owners == nil && len(op.Elements) == 1 {
			owners = o.chains[op.Elements[0].Verdict.Chain]
		}
		return owners
	}
	return nil
}

// ofAudit returns all that audit in a direction if a chain or set is one that they lead to; else owners.
func (o *Ownership) ofAudit(name string, owners []string) []string {
	d, ok := frame.OfAudit(name)
	if !ok {
		return owners
	}
	for _, iso := range o.state.isolations {
		if iso.kind == (frame.Kind{Direction: d, Audit: true}) && iso.quarantine == nil {
			owners = append(owners, iso.key)
		}
	}
	return owners
}

// ofPod returns whose an element is of the sets and maps that have the pods of the node.
func (o *Ownership) ofPod(set string, e nft.Element) []Quarantine {
	var all []Quarantine
	for _, f := range nft.Families() {
		a := netip.AddrFrom16(e.Addr)
		if f == nft.IPv4 {
			a = a.Unmap()
		}
		for _, d := range policy.Directions() {
			decided := o.state.isolationAt(d, a) != nil || o.state.listAt(d, a) != nil
			if frame.OfPod(set, d, f) && decided && o.state.refusedAt(d, a) == nil {
				all = append(all, Quarantine{Key: addressKey(d, a)})
			}
		}
	}
	return all
}

// closing returns the addresses that an operation closes, as open.
func (o *Ownership) closing(op nft.Op) []Quarantine {
	var all []Quarantine
	for _, q := range o.state.quarantines {
		if q.address.IsValid() && !q.Open && !q.released && frame.Closes(q.kind.Direction, q.address, op) {
			all = append(all, Quarantine{Key: q.Key, Open: true})
		}
	}
	return all
}

// Changed returns the keys of the isolations without which a transaction would not be what it is, the lightest first.
func (o *Ownership) Changed(tx *nft.Transaction) []string {
	keys := make(map[string]struct{})
	for _, op := range tx.Ops {
		all := op.Elements
		for i := range max(1, len(all)) {
			if len(all) > 0 {
				op.Elements = all[i : i+1]
			}
			for _, key := range o.of(op) {
				if key != "" {
					keys[key] = struct{}{}
				}
			}
			if len(all) > 0 && o.sets[op.Set.Name] != nil { // the same for each
				break
			}
		}
	}
	return o.lightest(slices.Collect(maps.Keys(keys)))
}

// Addresses returns the keys of the addresses of isolated pods of the node that are not set aside.
func (o *Ownership) Addresses() []string {
	var keys []string
	add := func(d policy.Direction, users map[*identity]struct{}) {
		for id := range users {
			for a := range id.Local {
				if o.state.refusedAt(d, a) == nil {
					keys = append(keys, addressKey(d, a))
				}
			}
		}
	}
	for _, iso := range o.state.isolations {
		add(iso.kind.Direction, iso.users)
	}
	for _, l := range o.state.lists {
		add(l.Direction, l.users)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// All returns the keys of all isolations that are not set aside, the lightest first.
func (o *Ownership) All() []string {
	return o.lightest(slices.Collect(maps.Keys(o.weight)))
}

func (o *Ownership) lightest(keys []string) []string {
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(o.weight[a], o.weight[b]), cmp.Compare(a, b))
	})
	return keys
}
