// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
)

// namespace is what is known of one namespace, and what is indexed by it.
type namespace struct {
	name       string
	known      bool // its object exists; if not, no namespaceSelector matches it
	labels     labels.Set
	identities map[string]*identity
	policies   map[types.NamespacedName]*policy
	selectors  map[*selector]struct{} // of its own pods
}

// identity is what pods have in common that policy cannot tell apart: namespace, labels and named ports. Selectors are evaluated
// once for each identity, and each isolation grants ports to identities.
type identity struct {
	key       string
	namespace *namespace
	labels    labels.Set
	ports     []NamedPort
	pods      int                 // that have it
	addrs     map[netip.Addr]*pod // that its pods own
	local     int                 // how many of addrs are of pods of this node

	selectors  map[*selector]struct{} // that match it
	grants     map[*isolation]*grant  // what isolations allow it, as a peer
	isolations [2]*isolation          // of its local pods, by Direction; nil where not isolated
}

// selector is one distinct selector of pods that rules in the kernel use.
type selector struct {
	podPeer
	key     string
	matches map[*identity]struct{}
	merged  map[*isolation]struct{} // that copy its pods into their own sets
	shares  map[*isolation]struct{} // that look its pods up in its own sets
	sets    map[nft.Family]*nft.Set // with shares: the addresses of all its pods, where there are any
}

// namespaceOf returns the namespace of that name, known or not.
func (s *State) namespaceOf(name string) *namespace {
	ns := s.namespaces[name]
	if ns == nil {
		ns = &namespace{
			name:       name,
			identities: make(map[string]*identity),
			policies:   make(map[types.NamespacedName]*policy),
			selectors:  make(map[*selector]struct{}),
		}
		s.namespaces[name] = ns
	}
	return ns
}

// dropNamespace forgets ns if nothing speaks of it any more.
func (s *State) dropNamespace(ns *namespace) {
	if !ns.known && len(ns.identities) == 0 && len(ns.policies) == 0 && len(ns.selectors) == 0 {
		delete(s.namespaces, ns.name)
	}
}

// identityOf returns the identity of p for one more pod, new if p is the first of its kind.
func (s *State) identityOf(p *Pod) *identity {
	ns := s.namespaceOf(p.Namespace)
	key := identityKey(p)
	id := ns.identities[key]
	if id == nil {
		id = &identity{
			key: key, namespace: ns, labels: p.Labels, ports: p.Ports,
			addrs:     make(map[netip.Addr]*pod),
			selectors: make(map[*selector]struct{}),
			grants:    make(map[*isolation]*grant),
		}
		ns.identities[key] = id
		for sel := range ns.selectors {
			s.match(sel, id)
		}
		for sel := range s.clusterSelectors {
			s.match(sel, id)
		}
	}
	id.pods++
	return id
}

// dropIdentity takes back one [State.identityOf].
func (s *State) dropIdentity(id *identity) {
	if id.pods--; id.pods > 0 {
		return
	}
	for sel := range id.selectors {
		delete(sel.matches, id)
	}
	for iso, g := range id.grants {
		iso.release(s, id, g)
	}
	for _, iso := range id.isolations {
		if iso != nil {
			s.leave(id, iso)
		}
	}
	delete(s.dirtyIdentities, id)
	delete(id.namespace.identities, id.key)
	s.dropNamespace(id.namespace)
}

// identityKey is equal for pods that policy cannot tell apart, within a namespace.
func identityKey(p *Pod) string {
	var b strings.Builder
	text := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		text(k)
		text(p.Labels[k])
	}
	b.WriteByte('/')
	for _, port := range p.Ports {
		text(port.Name)
		b.Write([]byte{port.Proto, byte(port.Number >> 8), byte(port.Number)})
	}
	return b.String()
}

// holds says whether the selector matches id by what is known now.
func (sel *selector) holds(id *identity) bool {
	return sel.covers(id.namespace) && sel.pods.Matches(id.labels)
}

// covers says whether the peer's pods may be in ns, by what is known now.
func (p podPeer) covers(ns *namespace) bool {
	switch {
	case p.namespace != "":
		return p.namespace == ns.name
	case p.namespaces != nil:
		return ns.known && p.namespaces.Matches(ns.labels)
	}
	return true
}

// share adds an address to the set of sel, if isolations look the selector up there.
func (s *State) share(sel *selector, a netip.Addr) {
	if len(sel.shares) == 0 {
		return
	}
	f := nft.FamilyOf(a)
	set := sel.sets[f]
	if set == nil {
		typ := nft.SetType{Family: f, Fields: nft.Addr}
		set = s.table.Set("namespaces-"+hash(sel.key)+"-"+f.String(), typ, sel.key)
		sel.sets[f] = set
		maps.Copy(s.dirtyChains, sel.shares)
	}
	set.Want(nft.AddrKey(a), nft.Value{}) // no comment: there may be as many as there are pods
}

// unshare takes an address out of the set of sel, which is there as long as it has elements.
func (s *State) unshare(sel *selector, a netip.Addr) {
	f := nft.FamilyOf(a)
	set := sel.sets[f]
	if set == nil {
		return
	}
	if set.Unwant(nft.AddrKey(a)); set.Len() == 0 {
		s.table.DeleteSet(set.Name)
		delete(sel.sets, f)
		maps.Copy(s.dirtyChains, sel.shares)
	}
}

// match brings the link between sel and id, and what follows from it, up to date.
func (s *State) match(sel *selector, id *identity) {
	_, linked := id.selectors[sel]
	holds := sel.holds(id)
	if linked == holds {
		return
	}
	link := s.share
	if holds {
		id.selectors[sel] = struct{}{}
		sel.matches[id] = struct{}{}
	} else {
		link = s.unshare
		delete(id.selectors, sel)
		delete(sel.matches, id)
	}
	for a := range id.addrs {
		link(sel, a)
	}
	for iso := range sel.merged {
		iso.grant(s, id)
	}
}

// selectorOf returns the selector of peer, matched against every identity if it is new.
func (s *State) selectorOf(peer podPeer) *selector {
	key := peer.String()
	sel := s.selectors[key]
	if sel != nil {
		return sel
	}
	sel = &selector{
		podPeer: peer, key: key,
		matches: make(map[*identity]struct{}),
		merged:  make(map[*isolation]struct{}),
		shares:  make(map[*isolation]struct{}),
		sets:    make(map[nft.Family]*nft.Set),
	}
	s.selectors[key] = sel
	if peer.namespace != "" {
		ns := s.namespaceOf(peer.namespace)
		ns.selectors[sel] = struct{}{}
		s.matchNamespace(sel, ns)
		return sel
	}
	s.clusterSelectors[sel] = struct{}{}
	for _, ns := range s.namespaces {
		if peer.covers(ns) {
			s.matchNamespace(sel, ns)
		}
	}
	return sel
}

func (s *State) matchNamespace(sel *selector, ns *namespace) {
	for _, id := range ns.identities {
		s.match(sel, id)
	}
}

// dropSelector forgets sel if no isolation uses it any more.
func (s *State) dropSelector(sel *selector) {
	if len(sel.merged) > 0 || len(sel.shares) > 0 {
		return
	}
	for id := range sel.matches {
		delete(id.selectors, sel)
	}
	delete(s.selectors, sel.key)
	if sel.namespace == "" {
		delete(s.clusterSelectors, sel)
		return
	}
	ns := s.namespaceOf(sel.namespace)
	delete(ns.selectors, sel)
	s.dropNamespace(ns)
}

// whole says whether the peer is every pod of its namespaces.
func (p podPeer) whole() bool { return p.pods.Empty() }

// String names the peer in comments and is equal for equal peers and only for those.
func (p podPeer) String() string {
	which := "namespace " + p.namespace
	switch {
	case p.namespace != "":
	case p.namespaces == nil:
		which = "the cluster"
	case p.namespaces.Empty():
		which = "all namespaces"
	default:
		which = "namespaces " + p.namespaces.String()
	}
	if p.whole() {
		return "pods of " + which
	}
	return "pods " + p.pods.String() + " of " + which
}
