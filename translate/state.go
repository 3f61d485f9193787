// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/index"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// Options are the operator's choices for the table.
type Options struct {
	LogGroup    uint16          // nfnetlink_log group that drops go to; 0 logs nothing
	Deny        nft.VerdictKind // nft.Drop, or nft.Reject to tell the sender
	Established frame.Established
	PodToNode   policy.PodToNode
	Limits      content.Limits
	Guard       guard.Options
	Observe     uint32      // see [frame.Options]
	TwoWays     bool        // see [frame.Options]
	TierBounds  tier.Bounds // of a list of ClusterNetworkPolicies; zero means the default
	WideFrom    int         // number of addresses from which a selector is wide; 0 means 1,024
}

// State is the cluster as policy sees it, and the table that it implies for one node. The events, SetPod and the
// others, edit memory in proportion to what they change; [State.Complete] completes the table. Its content is a
// function of what the state holds, not of the order of events.
type State struct {
	options Options
	table   *nft.Table

	index      *index.Index[held, uses]
	policies   *book.Policies
	isolations map[string]*isolation
	chains     map[string]*isolation // the same, by name of their chain
	openings   *opening.Chains
	place      *chain.Place // of the isolations

	quarantines    aside.Book
	joined         map[types.NamespacedName]map[*isolation]struct{} // those with the policy
	overLimit      map[*isolation]struct{}
	demands        map[string]*namespaceDemand // by namespace
	troubleVersion uint64

	// What is left for Complete.
	dirtyIdentities map[*identity]struct{}  // local ones whose policies may have changed
	relisted        map[*identity]struct{}  // local ones of which only lists may have changed
	dirtyIsolations map[*isolation]struct{} // those whose policies changed
	grown           map[*isolation]struct{} // those that have got more peers, see overtake
	moved           map[*list]struct{}      // those that have got other peers
	dirtyChains     map[*isolation]struct{} // those whose chain must be rendered again
	orphans         map[discarder]struct{}  // isolations and lists that may have no pods any more
	claimsChanged   bool                    // what isolations get of a namespace's limit may have changed

	leaving func(netip.Addr, policy.Pod) // see Leaving

	guard guard.Guard
	frame *frame.Frame

	clusterPolicies *book.ClusterPolicies
	lists           map[string]*list
	staleLists      map[*list]struct{} // those that may need another form
	parts           *tier.Parts
}

// New returns an empty state for the node of that name.
func New(node string, options Options) *State {
	s := &State{
		options: options,
		table: nft.NewTable(frame.TableName,
			"NetworkPolicy on node "+node+", written by netpold; manual changes are undone"),
		policies:        book.NewPolicies(),
		isolations:      make(map[string]*isolation),
		chains:          make(map[string]*isolation),
		quarantines:     make(aside.Book),
		joined:          make(map[types.NamespacedName]map[*isolation]struct{}),
		overLimit:       make(map[*isolation]struct{}),
		demands:         make(map[string]*namespaceDemand),
		dirtyIdentities: make(map[*identity]struct{}),
		relisted:        make(map[*identity]struct{}),
		dirtyIsolations: make(map[*isolation]struct{}),
		grown:           make(map[*isolation]struct{}),
		moved:           make(map[*list]struct{}),
		dirtyChains:     make(map[*isolation]struct{}),
		orphans:         make(map[discarder]struct{}),
		clusterPolicies: book.NewClusterPolicies(),
		lists:           make(map[string]*list),
		staleLists:      make(map[*list]struct{}),
	}
	s.guard = guard.New(options.Guard)
	s.parts = tier.NewParts(s.table)
	s.index = index.New(node, listener{s})
	s.openings = opening.NewChains(s.table)
	s.place = &chain.Place{Table: s.table, Openings: s.openings, Changed: func(chain string) {
		s.dirtyChains[s.chains[chain]] = struct{}{}
	}}
	s.frame = frame.New(s.table, frame.Options{
		LogGroup: options.LogGroup, Deny: options.Deny, Established: options.Established, PodToNode: options.PodToNode,
		Observe: options.Observe, TwoWays: options.TwoWays,
	})
	return s
}

// Observe returns the most flows of each family that the table counts; 0 means none.
func (s *State) Observe() uint32 { return s.options.Observe }

// Leaving makes the state call f, inside an event, with each address that a pod loses. f must not call the state.
func (s *State) Leaving(f func(netip.Addr, policy.Pod)) { s.leaving = f }

// SetNamespace sets the labels of a namespace.
func (s *State) SetNamespace(name string, labels map[string]string) {
	s.index.SetNamespace(name, labels)
	s.relist(name)
}

// DeleteNamespace forgets a namespace. No namespaceSelector matches its remaining pods, if any.
func (s *State) DeleteNamespace(name string) {
	_ = s.SetNamespaceMode(name, nil) // no annotations: no error
	s.index.DeleteNamespace(name)
	s.relist(name)
}

// SetPod adds p or replaces the pod of its name. The state keeps p's labels and slices; the caller must not change them
// afterwards.
func (s *State) SetPod(p policy.Pod) { s.index.SetPod(p) }

// DeletePod forgets a pod.
func (s *State) DeletePod(name types.NamespacedName) { s.index.DeletePod(name) }

// KnowsPod says whether the API has reported a pod.
func (s *State) KnowsPod(name types.NamespacedName) bool { return s.index.Pod(name) != nil }

// SetSandbox adds a sandbox or replaces the one with its id. It ignores those of other nodes.
func (s *State) SetSandbox(b policy.Sandbox) { s.index.SetSandbox(b) }

// DeleteSandbox forgets a sandbox: the API decides its addresses again.
func (s *State) DeleteSandbox(id string) { s.index.DeleteSandbox(id) }

// Sandboxes returns the sandboxes of this node by id.
func (s *State) Sandboxes() []policy.Sandbox { return s.index.Sandboxes() }

// Settled says whether the table is complete for a sandbox, with nothing left for another [State.Portion]. An unknown
// one is settled.
func (s *State) Settled(id string) bool {
	p := s.index.SandboxPod(id)
	if p == nil {
		return true
	}
	if s.dirty(p.Identity) {
		return false
	}
	for _, iso := range p.Identity.Own.here().isolations {
		if _, dirty := s.dirtyIsolations[iso]; dirty && iso != nil {
			return false
		}
	}
	return true
}

// setDispatch sends the traffic of the pod at a local address to the isolations of its identity.
func (s *State) setDispatch(a netip.Addr, p *pod) {
	var ways [2]frame.Way
	for _, d := range policy.Directions() {
		ways[d] = p.Identity.Own.local.way(d)
		if q := s.quarantines.AtAddress(d, a); q != nil {
			ways[d].Refused, ways[d].Open = true, q.Open
		}
	}
	if len(s.quarantines) > 0 {
		s.troubleVersion++
	}
	s.frame.SetPod(a, p.Text, ways)
}

// unsetDispatch removes a local address from the maps.
func (s *State) unsetDispatch(a netip.Addr) {
	if len(s.quarantines) > 0 {
		s.troubleVersion++
	}
	s.frame.UnsetPod(a)
}

// SetPolicy adds np or replaces the policy of its name; np is not kept. The error names what does not compile; the
// policy is still in force, narrowed: see [spec.Compile].
func (s *State) SetPolicy(np *networkingv1.NetworkPolicy) error {
	name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
	old := s.policies.Get(name)
	p, err := book.Compile(np, old)
	if err != nil {
		return err
	}
	if p != old {
		s.replacePolicy(name, p)
	}
	return p.Err
}

// DeletePolicy forgets a policy.
func (s *State) DeletePolicy(name types.NamespacedName) {
	if s.policies.Get(name) != nil {
		s.replacePolicy(name, nil)
	}
}

// replacePolicy replaces the policy of that name by p, or deletes it if p is nil.
func (s *State) replacePolicy(name types.NamespacedName, p *book.Policy) {
	s.endQuarantines(name)
	maps.Copy(s.dirtyIsolations, s.joined[name])
	delete(s.joined, name)
	old, reshared := s.policies.Put(name, p)
	for _, iso := range s.isolations {
		if reshared && iso.built && iso.namespace() == name.Namespace {
			s.dirtyIsolations[iso] = struct{}{}
		}
	}
	s.dirtyLocal(name.Namespace, func(id *identity) bool { return old.Selects(id) || p.Selects(id) })
}

// dirtyLocal marks the local identities of a namespace to find their isolations again.
func (s *State) dirtyLocal(namespace string, may func(*identity) bool) {
	for id := range s.index.Inhabited() {
		if id.Namespace.Name == namespace && may(id) {
			s.dirtyIdentities[id] = struct{}{}
		}
	}
}

// Changed says whether the table may have changed since [nft.Table.Take] was last called. It costs nothing: most events
// of a large cluster change nothing on a node.
func (s *State) Changed() bool { return s.Incomplete() || s.table.Changed() }

// Incomplete says whether the table is not yet what the objects imply.
func (s *State) Incomplete() bool {
	return s.unfinished() || len(s.dirtyChains) > 0 ||
		len(s.orphans) > 0 || len(s.staleLists) > 0 || s.claimsChanged || s.guardStale()
}

// Pods yields the names of all pods.
func (s *State) Pods() iter.Seq[types.NamespacedName] { return s.index.PodNames() }

// Policies yields the names of all policies.
func (s *State) Policies() iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for p := range s.policies.All() {
			if !yield(p.Name) {
				return
			}
		}
	}
}

// Namespaces yields the names of all namespaces, in Name, that have been set.
func (s *State) Namespaces() iter.Seq[types.NamespacedName] { return s.index.NamespaceNames() }

// ParseFlows is like [policy.Cluster.ParseFlows]; own are the addresses of the state's node.
func (s *State) ParseFlows(src, dst string, own []netip.Addr) ([]policy.Flow, error) {
	return s.index.ParseFlows(src, dst, own)
}

// Cluster returns the state as plain objects.
func (s *State) Cluster() *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string), PodToNode: s.options.PodToNode}
	c.GateReached = s.guard.Reached()
	c.Nodes = map[string][]netip.Prefix{s.index.Node(): s.guard.NodePodCIDRs()}
	for name, ns := range s.index.Namespaces() {
		if ns.Known {
			c.Namespaces[name] = ns.Labels
		}
		for _, p := range ns.Pods {
			c.Pods = append(c.Pods, p.Public())
		}
	}
	for p := range s.policies.All() {
		c.Policies = append(c.Policies, p.Source())
	}
	for name, written := range s.policies.WrittenModes() {
		c.SetMode(name, written)
	}
	c.Sandboxes = s.Sandboxes()
	s.clusterPolicies.AddTo(c, nil)
	return c
}

// Add sets every object of a cluster and returns the errors of its policies.
func (s *State) Add(c *policy.Cluster) []error {
	var errs []error
	for name, labels := range c.Namespaces {
		s.SetNamespace(name, labels)
	}
	for name, mode := range c.Modes {
		if err := s.SetNamespaceMode(name, map[string]string{policy.ModeAnnotation: mode}); err != nil {
			errs = append(errs, err)
		}
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
		if err := s.clusterPolicies.Get(p.Name).Err; err != nil {
			errs = append(errs, err)
		}
	}
	for _, np := range c.Policies {
		if err := s.SetPolicy(np); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}
