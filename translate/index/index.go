// SPDX-License-Identifier: Apache-2.0

package index

import (
	"hash/maphash"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// User is told about changes after they happen. I is its data for an identity, S for a selector.
type User[I, S any] interface {
	// Match says that a selector now matches an identity, and Unmatch that it no longer does.
	Match(sel *Selector[I, S], id *Identity[I, S])
	Unmatch(sel *Selector[I, S], id *Identity[I, S])

	// Attach says that an address now belongs to a pod, and Detach that it no longer does. In between, the pod's name,
	// identity and node do not change.
	Attach(a netip.Addr, p *Pod[I, S])
	Detach(a netip.Addr, p *Pod[I, S])

	// Left says that an identity has lost its last pod and is gone.
	Left(id *Identity[I, S])
}

// Index is what one node knows about the pods of a cluster.
type Index[I, S any] struct {
	Edits int // so far, in units of the cost of editing a table element

	user        User[I, S]
	node        unique.Handle[string]
	local       map[*Pod[I, S]]struct{} // the pods of this node, according to the API
	inhabited   map[*Identity[I, S]]struct{}
	sandboxes   map[string]*sandbox[I, S]
	sandboxesOf map[types.NamespacedName][]*sandbox[I, S]
	owners      map[netip.Addr]*Pod[I, S]
	rivals      map[netip.Addr][]*Pod[I, S] // all pods that claim an address, if several do
	hosts       map[netip.Addr][]*Pod[I, S] // of the host network
	namespaces  map[string]*Namespace[I, S]
	selectors   map[string]*Selector[I, S]
	ofCluster   map[*Selector[I, S]]struct{} // selectors with a namespaceSelector

	seed       maphash.Seed
	identities labelled[Identity[I, S]]
	known      labelled[Namespace[I, S]] // namespaces
	// the selectors of ofCluster, by what they require of a pod or of its namespace
	byPod, byNamespace askers[I, S]
}

// New returns an empty index for the node of that name.
func New[I, S any](node string, user User[I, S]) *Index[I, S] {
	return &Index[I, S]{
		user:        user,
		node:        unique.Make(node),
		local:       make(map[*Pod[I, S]]struct{}),
		inhabited:   make(map[*Identity[I, S]]struct{}),
		sandboxes:   make(map[string]*sandbox[I, S]),
		sandboxesOf: make(map[types.NamespacedName][]*sandbox[I, S]),
		owners:      make(map[netip.Addr]*Pod[I, S]),
		rivals:      make(map[netip.Addr][]*Pod[I, S]),
		hosts:       make(map[netip.Addr][]*Pod[I, S]),
		namespaces:  make(map[string]*Namespace[I, S]),
		selectors:   make(map[string]*Selector[I, S]),
		ofCluster:   make(map[*Selector[I, S]]struct{}),

		seed:       maphash.MakeSeed(),
		identities: newLabelled[Identity[I, S]](),
		known:      newLabelled[Namespace[I, S]](),
	}
}

// matchesAnEdit is how many times a selector can be matched against an identity in the time that it takes to edit an
// element.
const matchesAnEdit = 8

// Namespace is what is known about one namespace, and what is indexed by it.
type Namespace[I, S any] struct {
	Name       string
	Known      bool // its object exists; if not, no namespaceSelector matches it
	Labels     labels.Set
	Pods       map[string]*Pod[I, S]      // by name
	Identities map[uint64]*Identity[I, S] // by hashes

	identities *labelled[Identity[I, S]]
	selectors  map[*Selector[I, S]]struct{} // of its own pods
	byPod      askers[I, S]                 // these
	recent     *Identity[I, S]              // the newest, which the next one is likely to resemble; may be nil
	number     uint32                       // if it is known
	labels     []uint32                     // the ids of Labels
}

// Identity is what pods that policy cannot tell apart have in common: namespace, labels and named ports. Selectors are
// evaluated once for each identity.
type Identity[I, S any] struct {
	Own       I // the user's data
	Namespace *Namespace[I, S]
	Ports     []policy.NamedPort
	Idle      bool                      // its pods have no addresses of their own, so nothing matches it
	Local     map[netip.Addr]*Pod[I, S] // the pods of this node, by the addresses that they own; nil if none
	Selectors []*Selector[I, S]         // those that match it

	pods   []*Pod[I, S]
	labels []uint32 // their ids
	hash   uint64
	number uint32
}

// Selector is one distinct selector of pods.
type Selector[I, S any] struct {
	spec.Peer
	Own     S // the user's data
	Key     string
	Matches map[*Identity[I, S]]struct{} // nil until there is one

	askers   *askers[I, S]       // those it is among
	requires *labels.Requirement // by which it is
}

// Namespaces returns all namespaces about which anything is known, by name; read-only.
func (x *Index[I, S]) Namespaces() map[string]*Namespace[I, S] { return x.namespaces }

// Selectors returns all selectors by key; read-only.
func (x *Index[I, S]) Selectors() map[string]*Selector[I, S] { return x.selectors }

// Inhabited returns the few identities with pods of this node that own addresses; read-only.
func (x *Index[I, S]) Inhabited() map[*Identity[I, S]]struct{} { return x.inhabited }

// SetNamespace sets the labels of a namespace.
func (x *Index[I, S]) SetNamespace(name string, labels map[string]string) {
	ns := x.namespaceOf(name)
	if ns.Known && maps.Equal(ns.Labels, labels) {
		return
	}
	x.replaceLabels(ns, Namespace[I, S]{Name: name, Known: true, Labels: labels})
}

// DeleteNamespace forgets a namespace. No namespaceSelector matches its remaining pods, if any.
func (x *Index[I, S]) DeleteNamespace(name string) {
	ns := x.namespaces[name]
	if ns == nil || !ns.Known {
		return
	}
	x.replaceLabels(ns, Namespace[I, S]{Name: name})
	x.dropNamespace(ns)
}

// replaceLabels changes what is known about ns, and matches its pods against the namespaceSelectors whose answer
// changes.
func (x *Index[I, S]) replaceLabels(ns *Namespace[I, S], next Namespace[I, S]) {
	before := *ns
	if ns.Known {
		x.known.leave(ns.number, ns.labels)
	}
	if ns.Known, ns.Labels = next.Known, next.Labels; ns.Known {
		ns.number, ns.labels = x.known.enter(ns, ns.Labels)
	}
	for sel := range x.ofCluster {
		asked := sel.Namespaces != nil && (before.Known != ns.Known || tells(sel.Namespaces, before.Labels, ns.Labels))
		if asked && covers(sel.Peer, &before) != covers(sel.Peer, ns) {
			x.rematch(sel, ns)
		}
	}
}

// tells says whether a selector asks for a label in which two sets differ.
func tells(sel labels.Selector, a, b labels.Set) bool {
	requirements, _ := sel.Requirements()
	return slices.ContainsFunc(requirements, func(r labels.Requirement) bool {
		return a.Has(r.Key()) != b.Has(r.Key()) || a.Get(r.Key()) != b.Get(r.Key())
	})
}

// namespaceOf returns the namespace of that name, known or not.
func (x *Index[I, S]) namespaceOf(name string) *Namespace[I, S] {
	ns := x.namespaces[name]
	if ns == nil {
		ns = &Namespace[I, S]{
			Name:       name,
			Pods:       make(map[string]*Pod[I, S]),
			Identities: make(map[uint64]*Identity[I, S]),
			identities: &x.identities,
			selectors:  make(map[*Selector[I, S]]struct{}),
		}
		x.namespaces[name] = ns
	}
	return ns
}

// dropNamespace forgets ns if nothing refers to it any more.
func (x *Index[I, S]) dropNamespace(ns *Namespace[I, S]) {
	if !ns.Known && len(ns.Pods) == 0 && len(ns.Identities) == 0 && len(ns.selectors) == 0 {
		delete(x.namespaces, ns.Name)
	}
}

// identityOf returns the identity of p, a new one if p is the first of its kind. It goes when its last pod leaves.
func (x *Index[I, S]) identityOf(p *policy.Pod) *Identity[I, S] {
	ns := x.namespaceOf(p.Namespace)
	hash := x.hashOf(p)
	id := ns.Identities[hash]
	for ; id != nil && !id.is(p); id = ns.Identities[hash] {
		hash++
	}
	if id != nil {
		return id
	}
	id = &Identity[I, S]{hash: hash, Namespace: ns, Ports: p.Ports, Idle: idle(p)}
	if ns.recent != nil && slices.Equal(id.Ports, ns.recent.Ports) {
		id.Ports = ns.recent.Ports
	}
	ns.Identities[hash], ns.recent = id, id
	id.number, id.labels = x.identities.enter(id, p.Labels)
	if !id.Idle {
		x.introduce(id)
	}
	return id
}

// leaveIdentity removes p from its identity, which goes with its last pod.
func (x *Index[I, S]) leaveIdentity(p *Pod[I, S]) {
	id := p.Identity
	last := id.pods[len(id.pods)-1]
	id.pods[p.index], last.index = last, p.index
	id.pods[len(id.pods)-1] = nil
	id.pods = id.pods[:len(id.pods)-1]
	if len(id.pods) > 0 {
		return
	}
	for _, sel := range id.Selectors {
		delete(sel.Matches, id)
	}
	x.user.Left(id)
	x.identities.leave(id.number, id.labels)
	id.labels = nil
	delete(id.Namespace.Identities, id.hash)
	if id.Namespace.recent == id {
		id.Namespace.recent = nil
	}
	x.dropNamespace(id.Namespace)
}

// Addresses yields the addresses that pods of id own.
func (x *Index[I, S]) Addresses(id *Identity[I, S]) iter.Seq2[netip.Addr, *Pod[I, S]] {
	return func(yield func(netip.Addr, *Pod[I, S]) bool) {
		for _, p := range id.pods {
			for _, a := range p.Claims() {
				if x.owners[a] == p && !yield(a, p) {
					return
				}
			}
		}
	}
}

// In says whether a peer includes the pods of id, by what is known now.
func (id *Identity[I, S]) In(p spec.Peer) bool {
	return !id.Idle && covers(p, id.Namespace) && p.Pods.Matches(id)
}

// covers says whether pods of the peer may be in ns, by what is known now.
func covers[I, S any](p spec.Peer, ns *Namespace[I, S]) bool {
	switch {
	case p.Namespace != "":
		return p.Namespace == ns.Name
	case p.Namespaces != nil:
		return ns.Known && p.Namespaces.Matches(ns.Labels)
	}
	return true
}

// match updates the link between sel and id.
func (x *Index[I, S]) match(sel *Selector[I, S], id *Identity[I, S]) {
	_, linked := sel.Matches[id]
	holds := id.In(sel.Peer)
	if linked == holds {
		return
	}
	if holds {
		id.Selectors = append(id.Selectors, sel)
		if sel.Matches == nil {
			sel.Matches = make(map[*Identity[I, S]]struct{})
		}
		sel.Matches[id] = struct{}{}
		x.user.Match(sel, id)
	} else {
		id.unlink(sel)
		delete(sel.Matches, id)
		x.user.Unmatch(sel, id)
	}
}

// unlink removes sel from the selectors that match id.
func (id *Identity[I, S]) unlink(sel *Selector[I, S]) {
	last := len(id.Selectors) - 1
	id.Selectors[slices.Index(id.Selectors, sel)] = id.Selectors[last]
	id.Selectors[last] = nil
	id.Selectors = id.Selectors[:last]
}

// Selector returns the selector of peer, matched against every identity if it is new.
func (x *Index[I, S]) Selector(peer spec.Peer) *Selector[I, S] {
	key := peer.String()
	sel := x.selectors[key]
	if sel != nil {
		return sel
	}
	sel = &Selector[I, S]{Peer: peer, Key: key}
	x.selectors[key] = sel
	if peer.Namespace != "" {
		x.namespaceOf(peer.Namespace).selectors[sel] = struct{}{}
	} else {
		x.ofCluster[sel] = struct{}{}
	}
	x.enlist(sel)
	for _, id := range x.find(peer, nil) {
		x.match(sel, id)
	}
	return sel
}

// rematch updates the links between sel and the identities of ns.
func (x *Index[I, S]) rematch(sel *Selector[I, S], ns *Namespace[I, S]) {
	if covers(sel.Peer, ns) {
		for _, id := range x.find(sel.Peer, ns) {
			x.match(sel, id)
		}
		return
	}
	for _, id := range ns.Identities {
		if _, matches := sel.Matches[id]; matches {
			x.match(sel, id)
		}
	}
}

// DropSelector forgets sel, without telling the user.
func (x *Index[I, S]) DropSelector(sel *Selector[I, S]) {
	for id := range sel.Matches {
		id.unlink(sel)
	}
	delete(x.selectors, sel.Key)
	sel.askers.unset(sel, sel.requires)
	if sel.Namespace == "" {
		delete(x.ofCluster, sel)
		return
	}
	ns := x.namespaceOf(sel.Namespace)
	delete(ns.selectors, sel)
	x.dropNamespace(ns)
}
