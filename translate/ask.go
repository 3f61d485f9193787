// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// IsolationOf returns what a chain stands for, and false for a name that no isolation can have. For a chain that is no
// longer in the table, or was a previous process's, the name itself tells the first policy and the number of others.
func (s *State) IsolationOf(chain string) (frame.Isolation, bool) {
	if iso := s.chains[chain]; iso != nil {
		return frame.Isolation{Kind: iso.kind, Policies: iso.policies}, true
	}
	return frame.ParseIsolationName(chain)
}

// PodAt returns the pod that owns an address. Nobody owns an IPv4-mapped IPv6 address: on the wire it is not an IPv4
// address.
func (s *State) PodAt(a netip.Addr) (policy.Pod, bool) {
	p := s.index.Owner(a)
	if p == nil {
		return policy.Pod{}, false
	}
	return p.Public(), true
}

// HostAt returns the name of the node that has an address, as far as its host-network pods tell.
func (s *State) HostAt(a netip.Addr) (string, bool) { return s.index.Host(a) }

// Excerpt returns the part of the state that decides a flow: the pods at its ends, their namespaces, and the policies
// that isolate them. Its cost does not depend on the size of the cluster; for a pod of another node, or one that has
// just changed, it depends on the number of policies in its namespace.
func (s *State) Excerpt(f policy.Flow) *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string), PodToNode: s.options.PodToNode}
	c.Guard = s.policyGuard()
	s.clusterPolicies.AddTo(c, func(n policy.NodePeer) bool { return slices.Contains(n.Addresses, f.Dst) })
	var names []types.NamespacedName
	var pods []*pod
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		pods = append(pods, s.index.Hosts(a)...)
		p := s.index.Owner(a)
		if p == nil {
			continue
		}
		pods = append(pods, p)
		c.Quarantines = append(c.Quarantines, s.quarantinesOf(p)...)
		c.OverLimit = append(c.OverLimit, s.excessOf(p)...)
		ns := p.Identity.Namespace
		if ns.Known {
			c.Namespaces[ns.Name] = ns.Labels
		}
		c.SetMode(ns.Name, s.policies.WrittenMode(ns.Name))
		names = append(names, s.isolating(p)...)
	}
	for i, p := range pods {
		if !slices.Contains(pods[:i], p) {
			c.Pods = append(c.Pods, p.Public())
		}
	}
	slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range slices.Compact(names) {
		if p := s.policies.Get(name); p != nil { // nil: deleted since the isolation was made
			c.Policies = append(c.Policies, p.Source())
		}
	}
	return c
}

// isolating returns the policies that select a pod, some of them twice. Isolations exist only for pods of this node,
// and may be out of date.
func (s *State) isolating(p *pod) []types.NamespacedName {
	if s.index.IsLocal(p) && !s.dirty(p.Identity) {
		return s.isolatedBy(p)
	}
	var names []types.NamespacedName
	for _, np := range s.policies.In(p.Identity.Namespace.Name) {
		if np.Selects(p.Identity) {
			names = append(names, np.Name)
		}
	}
	return names
}

// Policy returns a policy as the state has it, that is its name and what matters to its meaning, and the pods of this
// node that it isolates, as sorted namespace/name; nil if there is no such policy. Its cost is proportional to the
// number of pods of the node.
func (s *State) Policy(name types.NamespacedName) (np *networkingv1.NetworkPolicy, pods []string) {
	p := s.policies.Get(name)
	if p == nil {
		return nil, nil
	}
	for local := range s.index.Local() {
		if strings.HasPrefix(local.Text, name.Namespace+"/") && slices.Contains(s.isolatedBy(local), name) {
			pods = append(pods, local.Text)
		}
	}
	slices.Sort(pods)
	return p.Source(), pods
}

// ClusterPolicy returns a ClusterNetworkPolicy, and the pods of this node that are its subjects, as sorted
// namespace/name; nil if there is no such policy. Its cost is proportional to the number of pods of the node.
func (s *State) ClusterPolicy(name string) (p *book.ClusterPolicy, pods []string) {
	p = s.clusterPolicies.Get(name)
	for local := range s.index.Local() {
		if !local.Identity.Idle && p.Selects(local.Identity.In) {
			pods = append(pods, local.Text)
		}
	}
	slices.Sort(pods)
	return p, pods
}

// isolatedBy returns the policies in the isolations of a pod of this node, and those that are audited beside them.
func (s *State) isolatedBy(p *pod) []types.NamespacedName {
	var names []types.NamespacedName
	own := p.Identity.Own.here()
	for _, d := range policy.Directions() {
		for _, iso := range []*isolation{own.isolations[d], own.shadows[d]} {
			if iso != nil {
				names = append(names, iso.policies...)
			}
		}
		if own.audited != nil {
			names = append(names, own.audited[d]...)
		}
	}
	return names
}

// NodeTrace is what the table of a node does with a flow.
type NodeTrace struct {
	Node string
	trace.Trail
	Incomplete bool               // the table is not yet complete, see [State.Incomplete]
	OverLimit  []policy.PodExcess // of the node's pods, if its table was made for this question
}

// Trace follows a flow through the state's current table. What a node sends to its own pods passes none of its hooks.
func (s *State) Trace(f policy.Flow) (NodeTrace, error) {
	if f.ToOwnPod {
		return NodeTrace{Node: s.index.Node(), Trail: trace.Trail{Verdict: nft.Verdict{Kind: nft.Accept}}}, nil
	}
	trail, err := trace.Follow(s.table, frame.PacketOf(f))
	if err != nil {
		return NodeTrace{}, fmt.Errorf("follow the flow through the table of node %s: %w", s.index.Node(), err)
	}
	trail.Steps = slices.DeleteFunc(trail.Steps, func(step trace.Step) bool { // those decide nothing
		return observe.Counts(step.Chain) || observe.Counts(step.Verdict.Chain)
	})
	return NodeTrace{Node: s.index.Node(), Trail: trail, Incomplete: s.Incomplete()}, nil
}
