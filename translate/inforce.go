// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
)

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
