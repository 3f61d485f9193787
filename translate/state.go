// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Options are what an operator chooses about the table.
type Options struct {
	LogGroup    uint16          // nfnetlink_log group that drops go to; 0 logs nothing
	Deny        nft.VerdictKind // nft.Drop, or nft.Reject to tell the sender
	Established frame.Established
	PodToNode   policy.PodToNode
	Limits      Limits
	UnknownPods UnknownPods
	PodRanges   []netip.Prefix // that only pods of this node have, where its Node does not tell; see [PodRanges]
	Observe     uint32         // see [frame.Options]
	PodLinks    []string       // that only pods have, where nothing tells their addresses; see [policy.Guard]
}

// State is the cluster as policy sees it, and the table of one node that it implies. The events, SetPod and the others,
// edit memory in proportion to what they change; [State.Complete] completes the table. Its content is a function of
// what the state holds, not of the order of events.
type State struct {
	node    unique.Handle[string]
	options Options
	table   *nft.Table

	nodePods         map[*pod]struct{} // the pods of this node
	sandboxes        map[string]*sandbox
	sandboxesOf      map[types.NamespacedName][]*sandbox
	owners           map[netip.Addr]*pod
	rivals           map[netip.Addr][]*pod // all that claim an address, where there are several
	hosts            map[netip.Addr][]*pod // of the host network
	namespaces       map[string]*namespace
	selectors        map[string]*selector
	clusterSelectors map[*selector]struct{} // those with a namespaceSelector
	isolations       map[string]*isolation
	chains           map[string]*isolation // the same, by the names of their chains
	openings         *opening.Chains

	quarantines    map[string]*quarantine      // by the keys of the isolations
	rejected       map[*networkPolicy]struct{} // that do not compile in full
	overLimit      map[*isolation]struct{}
	demands        map[string]*namespaceDemand // by namespace
	troubleVersion uint64

	// What Complete has yet to do.
	dirtyIdentities map[*identity]struct{}  // local ones, whose policies may be others now
	dirtyIsolations map[*isolation]struct{} // whose policies changed
	dirtyChains     map[*isolation]struct{} // whose chain may read otherwise
	orphans         map[*isolation]struct{} // that may have no pods any more
	reckon          bool                    // a namespace may have another share of its limit
	work            int                     // done so far, about as many as elements were edited

	guard guard
	frame *frame.Frame

	clusterPolicies map[string]policy.ClusterPolicy
	nodePeers       map[string]policy.NodePeer
}

// New returns the empty state of the node of that name.
func New(node string, options Options) *State {
	s := &State{
		node:    unique.Make(node),
		options: options,
		table: nft.NewTable(frame.TableName,
			"NetworkPolicy on node "+node+", written by netpold; manual changes are undone"),
		nodePods:         make(map[*pod]struct{}),
		sandboxes:        make(map[string]*sandbox),
		sandboxesOf:      make(map[types.NamespacedName][]*sandbox),
		owners:           make(map[netip.Addr]*pod),
		rivals:           make(map[netip.Addr][]*pod),
		hosts:            make(map[netip.Addr][]*pod),
		namespaces:       make(map[string]*namespace),
		selectors:        make(map[string]*selector),
		clusterSelectors: make(map[*selector]struct{}),
		isolations:       make(map[string]*isolation),
		chains:           make(map[string]*isolation),
		quarantines:      make(map[string]*quarantine),
		rejected:         make(map[*networkPolicy]struct{}),
		overLimit:        make(map[*isolation]struct{}),
		demands:          make(map[string]*namespaceDemand),
		dirtyIdentities:  make(map[*identity]struct{}),
		dirtyIsolations:  make(map[*isolation]struct{}),
		dirtyChains:      make(map[*isolation]struct{}),
		orphans:          make(map[*isolation]struct{}),
		clusterPolicies:  make(map[string]policy.ClusterPolicy),
		nodePeers:        make(map[string]policy.NodePeer),
	}
	s.openings = opening.NewChains(s.table, frame.Allow)
	s.frame = frame.New(s.table, frame.Options{
		LogGroup: options.LogGroup, Deny: options.Deny, Established: options.Established, PodToNode: options.PodToNode,
		Observe: options.Observe,
	})
	return s
}

// SetNamespace sets the labels of a namespace.
func (s *State) SetNamespace(name string, labels map[string]string) {
	ns := s.namespaceOf(name)
	if ns.known && maps.Equal(ns.labels, labels) {
		return
	}
	s.replaceLabels(ns, true, labels)
}

// DeleteNamespace forgets a namespace. Its pods, if there still are any, are matched by no namespaceSelector from now
// on.
func (s *State) DeleteNamespace(name string) {
	ns := s.namespaces[name]
	if ns == nil || !ns.known {
		return
	}
	s.replaceLabels(ns, false, nil)
	s.dropNamespace(ns)
}

// replaceLabels changes what is known of ns, and holds its pods against the namespaceSelectors that judge it otherwise
// now.
func (s *State) replaceLabels(ns *namespace, known bool, labels map[string]string) {
	before := *ns
	ns.known, ns.labels = known, labels
	for sel := range s.clusterSelectors {
		if covers(sel.Peer, &before) != covers(sel.Peer, ns) {
			s.matchNamespace(sel, ns)
		}
	}
}

// SetPolicy adds np or replaces the policy of its name; np is not kept. The error names what does not compile; the
// policy is in force all the same, narrowed: see [spec.Compile].
func (s *State) SetPolicy(np *networkingv1.NetworkPolicy) error {
	name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
	text, err := np.Spec.Marshal()
	if err != nil {
		return fmt.Errorf("NetworkPolicy %s: %w", name, err)
	}
	if old := s.policy(name); old != nil && bytes.Equal(old.text, text) {
		return old.err
	}
	compiled, err := spec.Compile(np) // of the rules most are of no use on this node
	s.replacePolicy(name, &networkPolicy{
		name: name, text: text, pods: compiled.Pods, isolates: compiled.Isolates, err: err,
	})
	return err
}

// DeletePolicy forgets a policy.
func (s *State) DeletePolicy(name types.NamespacedName) {
	if s.policy(name) == nil {
		return
	}
	s.replacePolicy(name, nil)
}

// policy returns the policy of that name, or nil.
func (s *State) policy(name types.NamespacedName) *networkPolicy {
	if ns := s.namespaces[name.Namespace]; ns != nil {
		return ns.policies[name.Name]
	}
	return nil
}

// replacePolicy puts p, or nothing, in the place of the policy of that name.
func (s *State) replacePolicy(name types.NamespacedName, p *networkPolicy) {
	ns := s.namespaceOf(name.Namespace)
	old := ns.policies[name.Name]
	s.noteRejected(old, p)
	s.endQuarantines(name)
	if old != nil {
		for iso := range old.isolations {
			s.dirtyIsolations[iso] = struct{}{}
		}
		delete(ns.policies, name.Name)
	}
	if p != nil {
		ns.policies[name.Name] = p
	}
	for _, id := range ns.identities {
		if len(id.local) > 0 && (old != nil && old.pods.Matches(id.labels) || p != nil && p.pods.Matches(id.labels)) {
			s.dirtyIdentities[id] = struct{}{}
		}
	}
	s.dropNamespace(ns)
}

// Changed says whether the table may be another than when [nft.Table.Take] was last called. It costs nothing: most
// events of a large cluster change nothing on a node.
func (s *State) Changed() bool { return s.Incomplete() || s.table.Changed() }

// Incomplete says whether the table is not yet what the objects imply.
func (s *State) Incomplete() bool {
	return len(s.dirtyIdentities) > 0 || len(s.dirtyIsolations) > 0 || len(s.dirtyChains) > 0 ||
		len(s.orphans) > 0 || s.reckon || s.regarding()
}

// Pods yields the names of all pods.
func (s *State) Pods() iter.Seq[types.NamespacedName] {
	return names(s, func(ns *namespace) map[string]*pod { return ns.pods })
}

// Policies yields the names of all policies.
func (s *State) Policies() iter.Seq[types.NamespacedName] {
	return names(s, func(ns *namespace) map[string]*networkPolicy { return ns.policies })
}

// names yields the names of what namespaces have.
func names[T any](s *State, in func(*namespace) map[string]T) iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for _, ns := range s.namespaces {
			for name := range in(ns) {
				if !yield(types.NamespacedName{Namespace: ns.name, Name: name}) {
					return
				}
			}
		}
	}
}

// Namespaces yields the names of all namespaces, in Name, that have been set.
func (s *State) Namespaces() iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for _, ns := range s.namespaces {
			if ns.known && !yield(types.NamespacedName{Name: ns.name}) {
				return
			}
		}
	}
}

// Cluster returns the state as plain objects.
func (s *State) Cluster() *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string), PodToNode: s.options.PodToNode}
	c.GateReached = s.guard.reached
	c.Nodes = map[string][]netip.Prefix{s.node.Value(): s.guard.podCIDRs}
	for name, ns := range s.namespaces {
		if ns.known {
			c.Namespaces[name] = ns.labels
		}
		for _, p := range ns.pods {
			c.Pods = append(c.Pods, p.public())
		}
		for _, p := range ns.policies {
			c.Policies = append(c.Policies, p.source())
		}
	}
	c.Sandboxes = s.Sandboxes()
	c.ClusterPolicies = slices.Collect(maps.Values(s.clusterPolicies))
	c.NodePeers = slices.Collect(maps.Values(s.nodePeers))
	return c
}

// Add sets every object of a cluster and returns the errors of its policies.
func (s *State) Add(c *policy.Cluster) []error {
	var errs []error
	for name, labels := range c.Namespaces {
		s.SetNamespace(name, labels)
	}
	for name, podCIDRs := range c.Nodes {
		s.SetNode(name, podCIDRs)
	}
	if c.GateReached {
		s.SetGateReached()
	}
	for _, p := range c.Pods {
		s.SetPod(p)
	}
	for _, b := range c.Sandboxes {
		s.SetSandbox(b)
	}
	for _, n := range c.NodePeers {
		s.SetNodePeer(n)
	}
	for _, p := range c.ClusterPolicies {
		s.SetClusterPolicy(p)
	}
	for _, np := range c.Policies {
		if err := s.SetPolicy(np); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}
