// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// clusterPolicy is a ClusterNetworkPolicy of the state.
type clusterPolicy struct {
	policy.ClusterPolicy
	hash     string // of what counts of it
	compiled spec.ClusterPolicy
	err      error // what does not compile
}

// audited says whether the policy is only audited.
func (p *clusterPolicy) audited() bool { return p.compiled.Mode == spec.Audited }

// selects says whether the pods of id are subjects of p, which may be nil.
func (p *clusterPolicy) selects(id *identity) bool {
	return p != nil && slices.ContainsFunc(p.compiled.Subject, id.In)
}

// tier is the one that the policy counts in.
func (p *clusterPolicy) tier() frame.Tier {
	if p.compiled.Tier == v1alpha2.BaselineTier {
		return frame.Baseline
	}
	return frame.Admin
}

// asksNodes says whether a rule names nodes.
func (p *clusterPolicy) asksNodes() bool {
	return slices.ContainsFunc(p.compiled.Rules[policy.Egress], func(r spec.ClusterRule) bool {
		return len(r.Nodes) > 0
	})
}

// SetClusterPolicy adds p or replaces the ClusterNetworkPolicy of its name. What does not compile is a [Trouble]; the
// policy is in force all the same, narrowed: see [spec.CompileCluster].
func (s *State) SetClusterPolicy(p policy.ClusterPolicy) {
	next := &clusterPolicy{ClusterPolicy: p}
	text, _ := json.Marshal([]any{p.Spec, p.Unread}) // of plain fields
	next.hash = nft.Hash(string(text))
	old := s.clusterPolicies[p.Name]
	if old != nil && old.hash == next.hash &&
		maps.Equal(policy.ModeOf(old.Annotations), policy.ModeOf(p.Annotations)) {
		old.ClusterPolicy = p
		return
	}
	next.compiled, next.err = spec.CompileCluster(p)
	s.endQuarantines(types.NamespacedName{Name: p.Name})
	s.clusterPolicies[p.Name] = next
	s.relistSubjects(old, next)
}

// DeleteClusterPolicy forgets a ClusterNetworkPolicy.
func (s *State) DeleteClusterPolicy(name string) {
	if old := s.clusterPolicies[name]; old != nil {
		s.endQuarantines(types.NamespacedName{Name: name})
		delete(s.clusterPolicies, name)
		s.relistSubjects(old, nil)
	}
}

// relistSubjects has the lists found anew of the local subjects of a policy before and after a change; either may be
// nil.
func (s *State) relistSubjects(old, next *clusterPolicy) {
	s.troubleVersion++
	s.denying = nil
	for id := range s.index.Inhabited() {
		if old.selects(id) || next.selects(id) {
			s.relisted[id] = struct{}{}
		}
	}
}

// relist has the lists found anew of the local pods of a namespace whose labels may have changed.
func (s *State) relist(namespace string) {
	if len(s.clusterPolicies) == 0 {
		return
	}
	s.dirtyLocal(namespace, func(*identity) bool { return true })
}

// SetNodePeer sets what a nodes peer sees of a node.
func (s *State) SetNodePeer(n policy.NodePeer) {
	old, known := s.nodePeers[n.Name]
	if known && maps.Equal(old.Labels, n.Labels) && slices.Equal(old.Addresses, n.Addresses) {
		return
	}
	s.nodePeers[n.Name] = n
	s.relistNodes()
}

// DeleteNodePeer forgets what a nodes peer sees of a node.
func (s *State) DeleteNodePeer(name string) {
	if _, known := s.nodePeers[name]; known {
		delete(s.nodePeers, name)
		s.relistNodes()
	}
}

// relistNodes has the lists found anew of the subjects of policies that name nodes.
func (s *State) relistNodes() {
	for _, p := range s.clusterPolicies {
		if p.asksNodes() {
			s.relistSubjects(p, nil)
		}
	}
}

// ClusterPolicies yields the names of all ClusterNetworkPolicies, in Name.
func (s *State) ClusterPolicies() iter.Seq[types.NamespacedName] {
	return inNoNamespace(s.clusterPolicies)
}

// NodePeers yields the names of all nodes that have been set as peers, in Name.
func (s *State) NodePeers() iter.Seq[types.NamespacedName] { return inNoNamespace(s.nodePeers) }

// Ties returns the ClusterNetworkPolicies that have the tier and priority of another one: of each, the names in the
// order in which they are asked.
func (s *State) Ties() [][]string {
	var c policy.Cluster
	for _, p := range s.clusterPolicies {
		c.ClusterPolicies = append(c.ClusterPolicies, p.ClusterPolicy)
	}
	return c.Ties()
}

// excerptTiers adds what an excerpt for a flow needs of the tiers before and after NetworkPolicy.
func (s *State) excerptTiers(c *policy.Cluster, f policy.Flow) {
	for _, p := range s.clusterPolicies {
		c.ClusterPolicies = append(c.ClusterPolicies, p.ClusterPolicy)
	}
	for _, n := range s.nodePeers {
		if slices.Contains(n.Addresses, f.Dst) {
			c.NodePeers = append(c.NodePeers, n)
		}
	}
}

// inNoNamespace yields the keys of m as names.
func inNoNamespace[T any](m map[string]T) iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for name := range m {
			if !yield(types.NamespacedName{Name: name}) {
				return
			}
		}
	}
}
