// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// SetClusterPolicy adds p or replaces the ClusterNetworkPolicy of its name.
func (s *State) SetClusterPolicy(p policy.ClusterPolicy) { s.clusterPolicies[p.Name] = p }

// DeleteClusterPolicy forgets a ClusterNetworkPolicy.
func (s *State) DeleteClusterPolicy(name string) { delete(s.clusterPolicies, name) }

// SetNodePeer sets what a nodes peer sees of a node.
func (s *State) SetNodePeer(n policy.NodePeer) { s.nodePeers[n.Name] = n }

// DeleteNodePeer forgets what a nodes peer sees of a node.
func (s *State) DeleteNodePeer(name string) { delete(s.nodePeers, name) }

// ClusterPolicies yields the names of all ClusterNetworkPolicies, in Name.
func (s *State) ClusterPolicies() iter.Seq[types.NamespacedName] {
	return inNoNamespace(s.clusterPolicies)
}

// NodePeers yields the names of all nodes that have been set as peers, in Name.
func (s *State) NodePeers() iter.Seq[types.NamespacedName] { return inNoNamespace(s.nodePeers) }

// excerptTiers adds what an excerpt for a flow needs of the tiers before and after NetworkPolicy.
func (s *State) excerptTiers(c *policy.Cluster, f policy.Flow) {
	c.ClusterPolicies = slices.Collect(maps.Values(s.clusterPolicies))
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
