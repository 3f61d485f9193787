// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// namespace is what is known of one namespace, and what is indexed by it.
type namespace struct {
	name       string
	known      bool // its object exists; if not, no namespaceSelector matches it
	labels     labels.Set
	pods       map[string]*pod // by name, as policies are
	identities map[identityKey]*identity
	policies   map[string]*networkPolicy
	selectors  map[*selector]struct{} // of its own pods
	recent     *identity              // the newest, which the next one is likely to resemble; may be nil
}

// identity is what pods have in common that policy cannot tell apart: namespace, labels and named ports. Selectors are
// evaluated once for each identity, and each isolation grants ports to identities.
type identity struct {
	key       identityKey
	namespace *namespace
	labels    labelList
	ports     []policy.NamedPort
	idle      bool // its pods have no addresses of their own: nothing matches it
	pods      []*pod
	local     map[netip.Addr]*pod // the pods of this node, by the addresses that they own; nil without one

	selectors  []*selector           // that match it
	grants     map[*isolation]*grant // what isolations allow it, as a peer; nil without one
	isolations [2]*isolation         // of its local pods, by Direction; nil where not isolated
}

// selector is one distinct selector of pods that rules in the kernel use.
type selector struct {
	spec.Peer
	key        string
	matches    map[*identity]struct{}
	copiedBy   map[*isolation]struct{} // that copy its pods into their own sets
	lookedUpBy map[*isolation]struct{} // that look its pods up in its own sets
	addresses  int                     // of the pods that it matches
	sets       map[nft.Family]*nft.Set // with lookedUpBy: the addresses of all its pods, where there are any
}

// namespaceOf returns the namespace of that name, known or not.
func (s *State) namespaceOf(name string) *namespace {
	ns := s.namespaces[name]
	if ns == nil {
		ns = &namespace{
			name:       name,
			pods:       make(map[string]*pod),
			identities: make(map[identityKey]*identity),
			policies:   make(map[string]*networkPolicy),
			selectors:  make(map[*selector]struct{}),
		}
		s.namespaces[name] = ns
	}
	return ns
}

// dropNamespace forgets ns if nothing speaks of it any more.
func (s *State) dropNamespace(ns *namespace) {
	if !ns.known && len(ns.pods) == 0 && len(ns.identities) == 0 && len(ns.policies) == 0 && len(ns.selectors) == 0 {
		delete(s.namespaces, ns.name)
	}
}

// identityOf returns the identity of p, new if p is the first of its kind; a new one goes when its last pod leaves it.
func (s *State) identityOf(p *policy.Pod) *identity {
	ns := s.namespaceOf(p.Namespace)
	key := keyOf(p)
	id := ns.identities[key]
	if id != nil {
		return id
	}
	id = &identity{key: key, namespace: ns, labels: listOf(p.Labels), ports: p.Ports, idle: idle(p)}
	if ns.recent != nil {
		id.reuse(ns.recent)
	}
	ns.identities[key], ns.recent = id, id
	for sel := range ns.selectors {
		s.match(sel, id)
	}
	for sel := range s.clusterSelectors {
		s.match(sel, id)
	}
	return id
}

// leaveIdentity takes p out of the pods of its identity, which goes with the last.
func (s *State) leaveIdentity(p *pod) {
	id := p.identity
	last := id.pods[len(id.pods)-1]
	id.pods[p.index], last.index = last, p.index
	id.pods[len(id.pods)-1] = nil
	id.pods = id.pods[:len(id.pods)-1]
	if len(id.pods) > 0 {
		return
	}
	for _, sel := range id.selectors {
		delete(sel.matches, id)
	}
	for iso, g := range id.grants {
		iso.release(s, id, g)
	}
	for _, iso := range id.isolations {
		if iso != nil {
			s.unassign(id, iso)
		}
	}
	delete(s.dirtyIdentities, id)
	delete(id.namespace.identities, id.key)
	if id.namespace.recent == id {
		id.namespace.recent = nil
	}
	s.dropNamespace(id.namespace)
}

// addresses yields the addresses that pods of id own.
func (s *State) addresses(id *identity) iter.Seq2[netip.Addr, *pod] {
	return func(yield func(netip.Addr, *pod) bool) {
		for _, p := range id.pods {
			for _, a := range p.claims() {
				if s.owners[a] == p && !yield(a, p) {
					return
				}
			}
		}
	}
}

// holds says whether the selector matches id by what is known now.
func (sel *selector) holds(id *identity) bool {
	return !id.idle && covers(sel.Peer, id.namespace) && sel.Pods.Matches(id.labels)
}

// covers says whether the peer's pods may be in ns, by what is known now.
func covers(p spec.Peer, ns *namespace) bool {
	switch {
	case p.Namespace != "":
		return p.Namespace == ns.name
	case p.Namespaces != nil:
		return ns.known && p.Namespaces.Matches(ns.labels)
	}
	return true
}

// listAddress adds an address to the set of sel, if isolations look the selector up there.
func (s *State) listAddress(sel *selector, a netip.Addr) {
	if len(sel.lookedUpBy) == 0 {
		return
	}
	f := nft.FamilyOf(a)
	set := sel.sets[f]
	if set == nil {
		typ := nft.SetType{Family: f, Fields: nft.Addr}
		set = s.table.Set("namespaces-"+nft.Hash(sel.key)+"-"+f.String(), typ, sel.key)
		sel.sets[f] = set
		maps.Copy(s.dirtyChains, sel.lookedUpBy)
	}
	s.work++
	set.Want(nft.AddrKey(a), nft.Value{}) // no comment: there may be as many as there are pods
}

// delistAddress takes an address out of the set of sel, which is there as long as it has elements.
func (s *State) delistAddress(sel *selector, a netip.Addr) {
	f := nft.FamilyOf(a)
	set := sel.sets[f]
	if set == nil {
		return
	}
	s.work++
	set.Unwant(nft.AddrKey(a))
	if set.Len() == 0 {
		s.table.DeleteSet(set.Name)
		delete(sel.sets, f)
		maps.Copy(s.dirtyChains, sel.lookedUpBy)
	}
}

// match brings the link between sel and id, and what follows from it, up to date.
func (s *State) match(sel *selector, id *identity) {
	_, linked := sel.matches[id]
	holds := sel.holds(id)
	if linked == holds {
		return
	}
	link := s.listAddress
	if holds {
		id.selectors = append(id.selectors, sel)
		sel.matches[id] = struct{}{}
	} else {
		link = s.delistAddress
		id.unlink(sel)
		delete(sel.matches, id)
	}
	n := 0
	for a := range s.addresses(id) {
		link(sel, a)
		n++
	}
	if !holds {
		n = -n
	}
	s.addAddresses(sel, n)
	for iso := range sel.copiedBy {
		iso.grant(s, id)
	}
}

// unlink takes sel out of the selectors that match id.
func (id *identity) unlink(sel *selector) {
	last := len(id.selectors) - 1
	id.selectors[slices.Index(id.selectors, sel)] = id.selectors[last]
	id.selectors[last] = nil
	id.selectors = id.selectors[:last]
}

// selectorOf returns the selector of peer, matched against every identity if it is new.
func (s *State) selectorOf(peer spec.Peer) *selector {
	key := peer.String()
	sel := s.selectors[key]
	if sel != nil {
		return sel
	}
	sel = &selector{
		Peer: peer, key: key,
		matches:    make(map[*identity]struct{}),
		copiedBy:   make(map[*isolation]struct{}),
		lookedUpBy: make(map[*isolation]struct{}),
		sets:       make(map[nft.Family]*nft.Set),
	}
	s.selectors[key] = sel
	if peer.Namespace != "" {
		ns := s.namespaceOf(peer.Namespace)
		ns.selectors[sel] = struct{}{}
		s.matchNamespace(sel, ns)
		return sel
	}
	s.clusterSelectors[sel] = struct{}{}
	for _, ns := range s.namespaces {
		if covers(peer, ns) {
			s.matchNamespace(sel, ns)
		}
	}
	return sel
}

func (s *State) matchNamespace(sel *selector, ns *namespace) {
	s.work += len(ns.identities) / matchesAnEdit
	for _, id := range ns.identities {
		s.match(sel, id)
	}
}

// dropSelector forgets sel if no isolation uses it any more.
func (s *State) dropSelector(sel *selector) {
	if len(sel.copiedBy) > 0 || len(sel.lookedUpBy) > 0 {
		return
	}
	for id := range sel.matches {
		id.unlink(sel)
	}
	delete(s.selectors, sel.key)
	if sel.Namespace == "" {
		delete(s.clusterSelectors, sel)
		return
	}
	ns := s.namespaceOf(sel.Namespace)
	delete(ns.selectors, sel)
	s.dropNamespace(ns)
}

// users yields the isolations that use the selector.
func (sel *selector) users() iter.Seq[*isolation] {
	return func(yield func(*isolation) bool) {
		for iso := range sel.copiedBy {
			if !yield(iso) {
				return
			}
		}
		for iso := range sel.lookedUpBy {
			if _, twice := sel.copiedBy[iso]; !twice && !yield(iso) {
				return
			}
		}
	}
}
