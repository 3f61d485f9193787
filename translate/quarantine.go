// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Quarantine sets an isolation aside: its pods are isolated as before, by a chain of another name and without sets, and nothing is allowed
// to them but what always is. Nothing of the table is left that only the isolation needs.
type Quarantine struct {
	Key    string // of the isolation
	Reason string // "" while it is only suspected: then it is no trouble that anybody is told of
	Bare   bool   // its pods are also left out of the sets that count, and that let a pod reach itself
}

// quarantine is what the state knows of one. It is remembered while its policies are as they are: pods come and go.
type quarantine struct {
	Quarantine
	direction policy.Direction
	policies  []types.NamespacedName
	released  bool // the isolation is tried again, and it is not known yet how that ends
}

// key is that of the isolation that stands in for the one that is set aside. No isolation's own key ends so.
func (q *quarantine) key() string {
	if q.Bare {
		return q.Key + "\n\nbare"
	}
	return q.Key + "\n\nquarantined"
}

// Quarantine sets an isolation aside until one of its policies changes, or [State.Release].
func (s *State) Quarantine(q Quarantine) {
	next := &quarantine{Quarantine: q}
	switch old, iso := s.quarantines[q.Key], s.isolations[q.Key]; {
	case old != nil:
		next.direction, next.policies, next.Reason = old.direction, old.policies, cmp.Or(q.Reason, old.Reason)
		s.renew(old)
	case iso != nil:
		next.direction, next.policies = iso.direction, iso.policies
	default: // its pods have gone since
		return
	}
	s.quarantines[q.Key] = next
	s.renew(next)
}

// Release lets isolations be made again. Until [State.Absolve] they remain the troubles that they are.
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

// Quarantined says whether an isolation is set aside, or was not absolved yet.
func (s *State) Quarantined(key string) bool { return s.quarantines[key] != nil }

// renew has the isolations found anew of whoever has the isolation of a quarantine, or the one that stands in for it.
func (s *State) renew(q *quarantine) {
	s.troubleVersion++
	for _, key := range []string{q.Key, q.key()} {
		if iso := s.isolations[key]; iso != nil {
			for id := range iso.users {
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

// standIn returns the quarantine of the isolation of that key, nil if it is not set aside.
func (s *State) standIn(key string) *quarantine {
	if q := s.quarantines[key]; q != nil && !q.released {
		return q
	}
	return nil
}

// bare says whether the pods of iso are left out of the sets that count. If that is so in all directions in which a pod is isolated, it
// cannot reach itself either.
func (iso *isolation) bare() bool { return iso.quarantine != nil && iso.quarantine.Bare }

// noteQuarantined keeps account of an isolation that comes or goes: who has the one that stands in is in trouble.
func (s *State) noteQuarantined(iso *isolation) {
	if iso.quarantine != nil {
		s.troubleVersion++
	}
}

// quarantined yields the quarantines that matter: somebody has the isolation.
func (s *State) quarantined(yield func(Trouble) bool) bool {
	for _, q := range s.quarantines {
		if q.Reason == "" || s.isolations[q.Key] == nil && s.isolations[q.key()] == nil {
			continue
		}
		if !yield(Trouble{Quarantined, q.policies, q.direction.String() + ": " + q.Reason}) {
			return false
		}
	}
	return true
}

// quarantinesOf returns what is set aside of a pod.
func (s *State) quarantinesOf(p *pod) []policy.PodQuarantine {
	var all []policy.PodQuarantine
	bare := true
	for _, d := range policy.Directions() {
		iso := p.identity.isolations[d]
		bare = bare && (iso == nil || iso.bare())
		if iso == nil || iso.quarantine == nil || p.node != s.node {
			continue
		}
		q := policy.PodQuarantine{Pod: p.public().NamespacedName, Direction: d, Reason: iso.quarantine.Reason}
		if q.Reason == "" {
			q.Reason = "the kernel refuses something, it is not known yet what"
		}
		all = append(all, q)
	}
	for i := range all {
		all[i].Bare = bare
	}
	return all
}

// Ownership says which isolations the objects of a table are there for.
type Ownership struct {
	state  *State
	sets   map[string][]*isolation
	chains map[string][]*isolation
	weight map[*isolation]int
}

// Ownership returns who owns what in the table of the moment. Its cost is that of the whole table.
func (s *State) Ownership() *Ownership {
	table := s.Table()
	o := &Ownership{s, make(map[string][]*isolation), make(map[string][]*isolation), make(map[*isolation]int)}
	frame := func(chain string) bool {
		return chain == alwaysChain || chain == ingressChain || chain == denyChain(policy.Egress) || chain == denyChain(policy.Ingress)
	}
	for _, iso := range s.isolations {
		reached := table.Reach(iso.name, frame)
		o.weight[iso] = reached.Weight
		for _, name := range reached.Sets {
			o.sets[name] = append(o.sets[name], iso)
		}
		for _, name := range reached.Chains {
			o.chains[name] = append(o.chains[name], iso)
		}
	}
	return o
}

// Of returns the isolations without which an operation would not be, as quarantines without a reason; none for what every table has, what
// is deleted, and what is quarantined already. An element of the maps by which packets are dispatched is of the isolation that it leads to.
// Those of the sets that count, or let a pod reach itself, are of the pod's isolations; setting these aside has to leave them out.
func (o *Ownership) Of(op nft.Op) []Quarantine {
	var owners []*isolation
	bare := false
	switch op.Verb {
	case nft.AddChain, nft.FlushChain, nft.AddRule:
		owners = o.chains[op.Chain.Name]
	case nft.AddSet, nft.AddElements:
		if owners = o.sets[op.Set.Name]; owners == nil && len(op.Elements) == 1 {
			owners, bare = o.ofPod(op.Set.Name, op.Elements[0])
		}
	}
	var all []Quarantine
	for _, iso := range owners {
		switch {
		case iso.quarantine == nil:
			all = append(all, Quarantine{Key: iso.key, Bare: bare})
		case bare && !iso.quarantine.Bare:
			all = append(all, Quarantine{Key: iso.quarantine.Key, Bare: true})
		}
	}
	return all
}

// ofPod returns whose an element is of the sets that have the pods of the node, and whether it is there whatever the isolation is.
func (o *Ownership) ofPod(set string, e nft.Element) (owners []*isolation, bare bool) {
	for _, f := range nft.Families() {
		a := netip.AddrFrom16(e.Addr)
		if f == nft.IPv4 {
			a = a.Unmap()
		}
		p := o.state.owners[a]
		for _, d := range policy.Directions() {
			if set == podsMap(d, f) {
				return o.chains[e.Verdict.Chain], false
			}
			if (set == deniedSet(d, f) || set == selfSet(f)) && p != nil && p.identity.isolations[d] != nil {
				owners, bare = append(owners, p.identity.isolations[d]), true
			}
		}
	}
	return owners, bare
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
			for _, q := range o.Of(op) {
				keys[q.Key] = struct{}{}
			}
			if len(all) > 0 && o.sets[op.Set.Name] != nil { // the same for each
				break
			}
		}
	}
	return o.lightest(slices.Collect(maps.Keys(keys)))
}

// All returns the keys of all isolations that are not set aside, the lightest first.
func (o *Ownership) All() []string {
	var keys []string
	for iso := range o.weight {
		if iso.quarantine == nil {
			keys = append(keys, iso.key)
		}
	}
	return o.lightest(keys)
}

func (o *Ownership) lightest(keys []string) []string {
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(o.weight[o.state.isolations[a]], o.weight[o.state.isolations[b]]), cmp.Compare(a, b))
	})
	return keys
}
