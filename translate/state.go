// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft"
)

// Options are what an operator chooses about the table.
type Options struct {
	LogGroup    uint16          // nfnetlink_log group that drops go to; 0 logs nothing
	Deny        nft.VerdictKind // nft.Drop, or nft.Reject to tell the sender
	Established Established
}

// Established says what becomes of a connection that was allowed when it began; the specification leaves that to implementations.
type Established uint8

// What a change of policy means to live connections.
const (
	Keep    Established = iota // they keep flowing
	Recheck                    // each packet of the original direction is held against the policies of the moment
)

// State is the cluster as policy sees it, and the table of one node that it implies. The events, SetPod and the others, edit memory
// in proportion to what they change; [State.Table] completes the table. Its content is a function of what the state holds, not of the
// order of events.
type State struct {
	node    string
	options Options
	table   *nft.Table

	pods             map[types.NamespacedName]*pod
	owners           map[netip.Addr]*pod
	rivals           map[netip.Addr][]*pod // all that claim an address, where there are several
	hosts            map[netip.Addr]host   // nodes, by the addresses of their pods of the host network
	namespaces       map[string]*namespace
	policies         map[types.NamespacedName]*policy
	selectors        map[string]*selector
	clusterSelectors map[*selector]struct{} // those with a namespaceSelector
	isolations       map[string]*isolation
	chains           map[string]*isolation // the same, by the names of their chains
	portChains       map[string]*portChain

	// What Table has yet to complete.
	dirtyIdentities map[*identity]struct{}  // local ones, whose policies may be others now
	dirtyIsolations map[*isolation]struct{} // whose policies changed
	dirtyChains     map[*isolation]struct{} // whose chain may read otherwise
	orphans         map[*isolation]struct{} // that may have no pods any more
}

// New returns the empty state of the node of that name.
func New(node string, options Options) *State {
	s := &State{
		node:             node,
		options:          options,
		table:            nft.NewTable(TableName, "NetworkPolicy on node "+node+", written by netpold; manual changes are undone"),
		pods:             make(map[types.NamespacedName]*pod),
		owners:           make(map[netip.Addr]*pod),
		rivals:           make(map[netip.Addr][]*pod),
		hosts:            make(map[netip.Addr]host),
		namespaces:       make(map[string]*namespace),
		policies:         make(map[types.NamespacedName]*policy),
		selectors:        make(map[string]*selector),
		clusterSelectors: make(map[*selector]struct{}),
		isolations:       make(map[string]*isolation),
		chains:           make(map[string]*isolation),
		portChains:       make(map[string]*portChain),
		dirtyIdentities:  make(map[*identity]struct{}),
		dirtyIsolations:  make(map[*isolation]struct{}),
		dirtyChains:      make(map[*isolation]struct{}),
		orphans:          make(map[*isolation]struct{}),
	}
	s.addFrame()
	return s
}

// SetNamespace sets the labels of a namespace.
func (s *State) SetNamespace(name string, labels map[string]string) {
	ns := s.namespaceOf(name)
	if ns.known && maps.Equal(ns.labels, labels) {
		return
	}
	ns.known, ns.labels = true, labels
	s.rematch(ns)
}

// DeleteNamespace forgets a namespace. Its pods, if there still are any, are matched by no namespaceSelector from now on.
func (s *State) DeleteNamespace(name string) {
	ns := s.namespaces[name]
	if ns == nil || !ns.known {
		return
	}
	ns.known, ns.labels = false, nil
	s.rematch(ns)
	s.dropNamespace(ns)
}

// rematch holds the pods of ns against every namespaceSelector.
func (s *State) rematch(ns *namespace) {
	for sel := range s.clusterSelectors {
		s.matchNamespace(sel, ns)
	}
}

// SetPolicy adds np or replaces the policy of its name; np is not changed afterwards. The error names what does not compile; the
// policy is in force all the same, narrowed: see [compile].
func (s *State) SetPolicy(np *networkingv1.NetworkPolicy) error {
	name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
	if old := s.policies[name]; old != nil && equality.Semantic.DeepEqual(old.source.Spec, np.Spec) {
		return old.err
	}
	p := compile(np)
	s.replacePolicy(name, p)
	return p.err
}

// DeletePolicy forgets a policy.
func (s *State) DeletePolicy(name types.NamespacedName) {
	if s.policies[name] == nil {
		return
	}
	s.replacePolicy(name, nil)
}

// replacePolicy puts p, or nothing, in the place of the policy of that name.
func (s *State) replacePolicy(name types.NamespacedName, p *policy) {
	ns := s.namespaceOf(name.Namespace)
	old := s.policies[name]
	if old != nil {
		for iso := range old.isolations {
			s.dirtyIsolations[iso] = struct{}{}
		}
		delete(s.policies, name)
		delete(ns.policies, name)
	}
	if p != nil {
		s.policies[name], ns.policies[name] = p, p
	}
	for _, id := range ns.identities {
		if id.local > 0 && (old != nil && old.pods.Matches(id.labels) || p != nil && p.pods.Matches(id.labels)) {
			s.dirtyIdentities[id] = struct{}{}
		}
	}
	s.dropNamespace(ns)
}

// Table returns the table that the state implies, complete. It stays the state's: it changes with the next events.
func (s *State) Table() *nft.Table {
	for id := range s.dirtyIdentities {
		s.isolate(id)
	}
	for iso := range s.dirtyIsolations {
		if len(iso.users) > 0 {
			iso.build(s)
		}
	}
	for iso := range s.orphans { // last, so that what others need as well is not made anew
		if len(iso.users) == 0 {
			iso.discard(s)
		}
	}
	for iso := range s.dirtyChains {
		iso.render(s)
	}
	clear(s.dirtyIdentities)
	clear(s.dirtyIsolations)
	clear(s.dirtyChains)
	clear(s.orphans)
	return s.table
}

// Cluster returns the state as plain objects.
func (s *State) Cluster() *Cluster {
	c := &Cluster{Namespaces: make(map[string]map[string]string)}
	for _, p := range s.pods {
		c.Pods = append(c.Pods, p.Pod)
	}
	for name, ns := range s.namespaces {
		if ns.known {
			c.Namespaces[name] = ns.labels
		}
	}
	for _, p := range s.policies {
		c.Policies = append(c.Policies, p.source)
	}
	return c
}

// AddTo sets every object of the cluster in s and returns the errors of its policies.
func (c *Cluster) AddTo(s *State) []error {
	var errs []error
	for name, labels := range c.Namespaces {
		s.SetNamespace(name, labels)
	}
	for _, p := range c.Pods {
		s.SetPod(p)
	}
	for _, np := range c.Policies {
		if err := s.SetPolicy(np); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}
