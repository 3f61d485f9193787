// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
)

// SetClusterPolicy adds p or replaces the ClusterNetworkPolicy of its name. What does not compile is a trouble; the
// policy is still in force, narrowed: see [spec.CompileCluster].
func (s *State) SetClusterPolicy(p policy.ClusterPolicy) {
	if old, next := s.clusterPolicies.Set(p); old != next {
		s.endQuarantines(types.NamespacedName{Name: p.Name})
		s.relistSubjects(old, next)
	}
}

// DeleteClusterPolicy forgets a ClusterNetworkPolicy.
func (s *State) DeleteClusterPolicy(name string) {
	if old := s.clusterPolicies.Delete(name); old != nil {
		s.endQuarantines(types.NamespacedName{Name: name})
		s.relistSubjects(old, nil)
	}
}

// relistSubjects marks the lists of a policy's local subjects, before and after a change, to be found again; either
// policy may be nil.
func (s *State) relistSubjects(old, next *book.ClusterPolicy) {
	s.troubleVersion++
	for id := range s.index.Inhabited() {
		if old.Selects(id.In) || next.Selects(id.In) {
			s.relisted[id] = struct{}{}
		}
	}
}

// relist marks the lists of the local pods of a namespace, whose labels may have changed, to be found again.
func (s *State) relist(namespace string) {
	if s.clusterPolicies.Len() == 0 {
		return
	}
	s.dirtyLocal(namespace, func(*identity) bool { return true })
}

// SetNodePeer sets a node as nodes peers see it.
func (s *State) SetNodePeer(n policy.NodePeer) {
	if s.clusterPolicies.SetNode(n) {
		s.relistNodes()
	}
}

// DeleteNodePeer forgets a node.
func (s *State) DeleteNodePeer(name string) {
	if s.clusterPolicies.DeleteNode(name) {
		s.relistNodes()
	}
}

// relistNodes marks the lists of the subjects of policies that name nodes to be found again.
func (s *State) relistNodes() {
	for p := range s.clusterPolicies.All() {
		if p.AsksNodes() {
			s.relistSubjects(p, nil)
		}
	}
}

// ClusterPolicies yields the names of all ClusterNetworkPolicies, in Name.
func (s *State) ClusterPolicies() iter.Seq[types.NamespacedName] { return s.clusterPolicies.Names() }

// NodePeers yields the names of all nodes that have been set as peers, in Name.
func (s *State) NodePeers() iter.Seq[types.NamespacedName] { return s.clusterPolicies.NodeNames() }

// Ties is [book.ClusterPolicies.Ties].
func (s *State) Ties() [][]string { return s.clusterPolicies.Ties() }

// TierRuleOf is [book.ClusterPolicies.RuleOf].
func (s *State) TierRuleOf(chain string) (policy.ClusterRuleRef, bool) {
	return s.clusterPolicies.RuleOf(chain)
}

// DenyingRules is [book.ClusterPolicies.Denying].
func (s *State) DenyingRules() map[string]policy.ClusterRuleRef { return s.clusterPolicies.Denying() }
