// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
)

// Summary counts what a state holds and what its table enforces.
type Summary struct {
	Pods       int    // of the cluster
	NodePods   int    // of this node, including the host network's
	LocalPods  int    // of this node, with an address of their own
	Isolated   [2]int // pods of this node that a policy isolates, by [policy.Direction]
	Audited    [2]int // pods of this node that audited policies select, by [policy.Direction]
	Policies   int    // of the cluster
	InEffect   int    // policies that isolate a pod of this node, as written
	Auditing   int    // policies of the cluster that are only audited, as written
	Troubled   [5]int // policies not in force as written, by their worst [book.TroubleKind]
	Isolations int    // chains of policies

	ClusterPolicies int // ClusterNetworkPolicies
	ClusterInEffect int // enforced ones with a rule for a pod of this node
	ClusterAuditing int // audited ones

	Sets     int // sets and maps of the table
	Elements int // in all of them
}

// Summary returns the counts. Its cost is proportional to the number of policies and namespaces, not of pods.
func (s *State) Summary() Summary {
	sum := Summary{NodePods: len(s.index.Local()), Isolations: len(s.isolations)}
	for p := range s.index.Local() {
		if p.Identity.Idle {
			continue
		}
		sum.LocalPods++
		for _, d := range policy.Directions() {
			if iso := p.Identity.Own.here().isolations[d]; iso != nil && !iso.kind.Audit {
				sum.Isolated[d]++
			}
			if p.Identity.Own.here().audits(d) {
				sum.Audited[d]++
			}
		}
	}
	worst := book.Worst(s.Troubles())
	for _, ns := range s.index.Namespaces() {
		sum.Pods += len(ns.Pods)
	}
	for p := range s.policies.All() {
		sum.Policies++
		kind, troubled := worst[p.Name]
		switch {
		case troubled:
			sum.Troubled[kind]++
		case s.policies.Audits(p):
			sum.Auditing++
		case len(s.joined[p.Name]) > 0:
			sum.InEffect++
		}
	}
	sum.ClusterPolicies = s.clusterPolicies.Len()
	effective := make(map[types.NamespacedName]bool)
	for _, l := range s.lists {
		for _, name := range l.policies {
			if !l.kind.Audit {
				effective[name] = true
			}
		}
	}
	sum.ClusterInEffect = len(effective)
	for p := range s.clusterPolicies.All() {
		if p.Audited() {
			sum.ClusterAuditing++
		}
	}
	for _, set := range s.table.Sets() {
		sum.Sets++
		sum.Elements += set.Len()
	}
	return sum
}

// HasNamespace says whether a namespace of that name exists, or a pod or policy in it.
func (s *State) HasNamespace(name string) bool {
	return s.index.Namespaces()[name] != nil || s.policies.In(name) != nil
}

// Troubles yields what is currently wrong with policies, in no order. Its cost does not depend on the size of the
// cluster.
func (s *State) Troubles() iter.Seq[book.Trouble] {
	return func(yield func(book.Trouble) bool) {
		for _, some := range []iter.Seq[book.Trouble]{
			s.quarantined, s.overLimits, s.policies.Rejections(), s.clusterPolicies.Rejections(),
		} {
			for t := range some {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// TroubleVersion changes whenever the result of [State.Troubles] does.
func (s *State) TroubleVersion() uint64 { return s.troubleVersion + s.policies.Version }
