// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
)

// sharedSet is the pods of a selector in sets of the table, one for each family, that all who look them up share: by
// their addresses or, if there are names, by the ports that have one of those in them.
type sharedSet struct {
	name, comment string
	ports         []policy.NamedPort // names; a Proto of 0 is any
	sets          map[nft.Family]*nft.Set
	lookedUpBy    map[*isolation]int // how often; then sets that would be empty are not there
	heldBy        map[*list]struct{} // then all are there
}

// wideFrom is from how many addresses on a selector is wide: who has it looks its pods up in a set that all share, and
// has no copy of them.
const wideFrom = 1024

// wide says whether a selector is, by what it matches now.
func (s *State) wide(sel *selector) bool {
	return sel.Own.addresses >= cmp.Or(s.options.WideFrom, wideFrom)
}

// sharedKey is equal for equal names of ports and only for those.
func sharedKey(ports []policy.NamedPort) string {
	key := ""
	for _, p := range ports {
		key += " " + p.Name
		if p.Proto != 0 {
			key += "/" + nft.ProtocolName(p.Proto)
		}
	}
	return key
}

// share returns what is shared of a selector, complete.
func (s *State) share(sel *selector, ports ...policy.NamedPort) *sharedSet {
	key := sharedKey(ports)
	sh := sel.Own.shared[key]
	if sh != nil {
		return sh
	}
	sh = &sharedSet{
		name: "namespaces-" + nft.Hash(sel.Key), comment: sel.Key, ports: ports, sets: make(map[nft.Family]*nft.Set),
		lookedUpBy: make(map[*isolation]int), heldBy: make(map[*list]struct{}),
	}
	if len(ports) > 0 {
		sh.name, sh.comment = "named-"+nft.Hash(sel.Key, key), "ports"+key+" of "+sel.Key
	}
	if sel.Own.shared == nil {
		sel.Own.shared = make(map[string]*sharedSet)
	}
	sel.Own.shared[key] = sh
	for id := range sel.Matches {
		for a := range s.index.Addresses(id) {
			sh.add(s, a, id.Ports)
		}
	}
	return sh
}

// keys yields those of the elements that an address of a pod with some ports has.
func (sh *sharedSet) keys(a netip.Addr, ports []policy.NamedPort) iter.Seq[nft.Key] {
	return func(yield func(nft.Key) bool) {
		if len(sh.ports) == 0 {
			yield(nft.AddrKey(a))
			return
		}
		for _, have := range ports {
			named := func(p policy.NamedPort) bool {
				return p.Name == have.Name && (p.Proto == have.Proto || p.Proto == 0)
			}
			if slices.ContainsFunc(sh.ports, named) && !yield(nft.PortKey(a, have.Proto, have.Number)) {
				return
			}
		}
	}
}

// add adds an address of a pod with some ports.
func (sh *sharedSet) add(s *State, a netip.Addr, ports []policy.NamedPort) {
	for key := range sh.keys(a, ports) {
		s.work++
		// no comment: there may be as many as there are pods
		sh.of(s, nft.FamilyOf(a)).Want(key, nft.Value{})
	}
}

// remove takes it out again.
func (sh *sharedSet) remove(s *State, a netip.Addr, ports []policy.NamedPort) {
	for key := range sh.keys(a, ports) {
		s.work++
		sh.of(s, nft.FamilyOf(a)).Unwant(key)
	}
	sh.drop(s)
}

// of returns the set of a family.
func (sh *sharedSet) of(s *State, f nft.Family) *nft.Set {
	set := sh.sets[f]
	if set == nil {
		typ := nft.SetType{Family: f, Fields: nft.Addr}
		if len(sh.ports) > 0 {
			typ.Fields = nft.AddrProtoPort
		}
		set = s.table.Set(sh.name+"-"+f.String(), typ, sh.comment)
		sh.sets[f] = set
		sh.dirty(s)
	}
	return set
}

// drop deletes the sets that nobody needs.
func (sh *sharedSet) drop(s *State) {
	for f, set := range sh.sets {
		if len(sh.heldBy) > 0 || len(sh.lookedUpBy) > 0 && set.Len() > 0 {
			continue
		}
		s.table.DeleteSet(set.Name)
		delete(sh.sets, f)
		sh.dirty(s)
	}
}

// dirty has the chains made anew that look the sets up.
func (sh *sharedSet) dirty(s *State) {
	for iso := range sh.lookedUpBy {
		s.dirtyChains[iso] = struct{}{}
	}
}

// unshare forgets what is shared of a selector if nobody needs it.
func (s *State) unshare(sel *selector, sh *sharedSet) {
	sh.drop(s)
	if len(sh.heldBy)+len(sh.lookedUpBy) == 0 {
		delete(sel.Own.shared, sharedKey(sh.ports))
	}
}

// lookUpIn makes iso a user of the sets of sel that have what it allows.
func (s *State) lookUpIn(sel *selector, iso *isolation, a content.Allowed) {
	for ports := range a.Shared() {
		s.share(sel, ports...).lookedUpBy[iso]++
		sel.Own.lookedUpBy[iso]++
	}
}

// endLookUp takes back one lookUpIn.
func (s *State) endLookUp(sel *selector, iso *isolation, a content.Allowed) {
	for ports := range a.Shared() {
		sh := sel.Own.shared[sharedKey(ports)]
		decrement(sh.lookedUpBy, iso)
		decrement(sel.Own.lookedUpBy, iso)
		s.unshare(sel, sh)
	}
	s.dropSelector(sel)
}

// decrement takes one from a count, which is there as long as it is not zero.
func decrement[K comparable](counts map[K]int, k K) {
	if counts[k]--; counts[k] == 0 {
		delete(counts, k)
	}
}
