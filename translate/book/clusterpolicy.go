// SPDX-License-Identifier: Apache-2.0

package book

import (
	"slices"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// ClusterPolicy is a ClusterNetworkPolicy.
type ClusterPolicy struct {
	Name string
	Hash string // of its meaning
	Err  error  // what does not compile

	source   policy.ClusterPolicy
	compiled spec.ClusterPolicy
	depends  [2]bool // see [ClusterPolicy.Depends]
}

// Source returns the policy as it was given; not to be changed.
func (p *ClusterPolicy) Source() policy.ClusterPolicy { return p.source }

// Audited says whether the policy is only audited.
func (p *ClusterPolicy) Audited() bool { return p.compiled.Mode == spec.Audited }

// Rules returns the policy's rules of a direction.
func (p *ClusterPolicy) Rules(d policy.Direction) []spec.ClusterRule { return p.compiled.Rules[d] }

// Depends says whether rules of a direction depend on more than their text: the names of ports, or the nodes.
func (p *ClusterPolicy) Depends(d policy.Direction) bool { return p.depends[d] }

// Selects says whether pods are subjects of p, which may be nil. in says whether a peer matches the pods.
func (p *ClusterPolicy) Selects(in func(spec.Peer) bool) bool {
	return p != nil && slices.ContainsFunc(p.compiled.Subject, in)
}

// AsksNodes says whether a rule names nodes.
func (p *ClusterPolicy) AsksNodes() bool {
	return slices.ContainsFunc(p.Rules(policy.Egress), func(r spec.ClusterRule) bool { return len(r.Nodes) > 0 })
}

// tier is the tier in which the policy counts.
func (p *ClusterPolicy) tier() frame.Tier {
	if p.compiled.Tier == v1alpha2.BaselineTier {
		return frame.Baseline
	}
	return frame.Admin
}

// has says whether a rule of a direction has an action.
func (p *ClusterPolicy) has(d policy.Direction, a spec.Action) bool {
	return slices.ContainsFunc(p.Rules(d), func(r spec.ClusterRule) bool { return r.Action == a })
}
