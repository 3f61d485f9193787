// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
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
