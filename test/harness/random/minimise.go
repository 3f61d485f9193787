// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/translate/policy"
)

// Minimise returns the smallest cluster that it finds for which fails is still true: nothing can be left out of it.
func Minimise(c *policy.Cluster, fails func(*policy.Cluster) bool) *policy.Cluster {
	for {
		smaller := firstFailing(c, fails)
		if smaller == nil {
			return c
		}
		c = smaller
	}
}

func firstFailing(c *policy.Cluster, fails func(*policy.Cluster) bool) *policy.Cluster {
	for smaller := range reductions(c) {
		if fails(smaller) {
			return smaller
		}
	}
	return nil
}

// reductions yields copies of c without one thing: first whole objects, then parts of them.
func reductions(c *policy.Cluster) iter.Seq[*policy.Cluster] {
	return func(yield func(*policy.Cluster) bool) {
		for _, e := range Events(c) {
			smaller := *c
			e.Delete = true
			if e.ApplyTo(&smaller); !yield(&smaller) {
				return
			}
		}
		for i, p := range c.Pods {
			for smaller := range podReductions(p) {
				next := *c
				next.Pods = slices.Clone(c.Pods)
				if next.Pods[i] = smaller; !yield(&next) {
					return
				}
			}
		}
		for i, np := range c.Policies {
			for smaller := range policyReductions(np) {
				next := *c
				next.Policies = slices.Clone(c.Policies)
				if next.Policies[i] = smaller; !yield(&next) {
					return
				}
			}
		}
		for i, p := range c.ClusterPolicies {
			for smaller := range tierReductions(p) {
				next := *c
				next.ClusterPolicies = slices.Clone(c.ClusterPolicies)
				if next.ClusterPolicies[i] = smaller; !yield(&next) {
					return
				}
			}
		}
		for name, labels := range c.Namespaces {
			for key := range labels {
				next := *c
				next.Namespaces = maps.Clone(c.Namespaces)
				next.Namespaces[name] = maps.Clone(labels)
				if delete(next.Namespaces[name], key); !yield(&next) {
					return
				}
			}
		}
	}
}

// podReductions yields copies of p without one address, label or port, or not terminating.
func podReductions(p policy.Pod) iter.Seq[policy.Pod] {
	return func(yield func(policy.Pod) bool) {
		for i := range p.IPs {
			smaller := p
			if smaller.IPs = slices.Delete(slices.Clone(p.IPs), i, i+1); !yield(smaller) {
				return
			}
		}
		for i := range p.Ports {
			smaller := p
			if smaller.Ports = slices.Delete(slices.Clone(p.Ports), i, i+1); !yield(smaller) {
				return
			}
		}
		if p.Terminating {
			smaller := p
			if smaller.Terminating = false; !yield(smaller) {
				return
			}
		}
		for key := range p.Labels {
			smaller := p
			smaller.Labels = maps.Clone(p.Labels)
			if delete(smaller.Labels, key); !yield(smaller) {
				return
			}
		}
	}
}

// policyReductions yields copies of np without one part: every list of a policy loses each of its items in turn.
func policyReductions(np *networkingv1.NetworkPolicy) iter.Seq[*networkingv1.NetworkPolicy] {
	return func(yield func(*networkingv1.NetworkPolicy) bool) {
		for n := 0; ; n++ {
			smaller := np.DeepCopy()
			cut := &cutter{left: n}
			cut.policy(&smaller.Spec)
			if cut.left >= 0 || !yield(smaller) {
				return
			}
		}
	}
}

// cutter leaves out the left-th of the parts that it is shown; then left is negative.
type cutter struct{ left int }

func (c *cutter) here() bool {
	c.left--
	return c.left == -1
}

// items leaves out one item of a list.
func items[T any](c *cutter, list *[]T) {
	for i := range *list {
		if c.here() {
			*list = slices.Delete(slices.Clone(*list), i, i+1)
			return
		}
	}
}

func (c *cutter) policy(spec *networkingv1.NetworkPolicySpec) {
	items(c, &spec.PolicyTypes)
	items(c, &spec.Ingress)
	items(c, &spec.Egress)
	c.selector(&spec.PodSelector)
	for i := range spec.Ingress {
		c.rule(&spec.Ingress[i].From, &spec.Ingress[i].Ports)
	}
	for i := range spec.Egress {
		c.rule(&spec.Egress[i].To, &spec.Egress[i].Ports)
	}
}

// tierReductions is policyReductions for a ClusterNetworkPolicy.
func tierReductions(p policy.ClusterPolicy) iter.Seq[policy.ClusterPolicy] {
	return func(yield func(policy.ClusterPolicy) bool) {
		for n := 0; ; n++ {
			smaller := policy.ClusterPolicy{ClusterNetworkPolicy: p.DeepCopy(), Unread: slices.Clone(p.Unread)}
			cut := &cutter{left: n}
			cut.clusterPolicy(&smaller)
			if cut.left >= 0 || !yield(smaller) {
				return
			}
		}
	}
}

func (c *cutter) clusterPolicy(p *policy.ClusterPolicy) {
	items(c, &p.Unread)
	for d, rules := range [...]int{policy.Egress: len(p.Spec.Egress), policy.Ingress: len(p.Spec.Ingress)} {
		for i := range rules {
			if !c.here() {
				continue
			}
			if policy.Direction(d) == policy.Egress {
				p.Spec.Egress = slices.Delete(p.Spec.Egress, i, i+1)
			} else {
				p.Spec.Ingress = slices.Delete(p.Spec.Ingress, i, i+1)
			}
			shift(p, policy.Direction(d), i)
			return
		}
	}
	for i := range p.Spec.Egress {
		items(c, &p.Spec.Egress[i].To)
		items(c, &p.Spec.Egress[i].Protocols)
		for j := range p.Spec.Egress[i].To {
			items(c, &p.Spec.Egress[i].To[j].Networks)
		}
	}
	for i := range p.Spec.Ingress {
		items(c, &p.Spec.Ingress[i].From)
		items(c, &p.Spec.Ingress[i].Protocols)
	}
}

// shift removes a rule from the unread parts of a policy.
func shift(p *policy.ClusterPolicy, d policy.Direction, rule int) {
	p.Unread = slices.DeleteFunc(p.Unread, func(u policy.Unread) bool { return u.Direction == d && u.Index == rule })
	for i, u := range p.Unread {
		if u.Direction == d && u.Index > rule {
			p.Unread[i] = unknown(d, u.Index-1, fmt.Sprintf("spec.%s[%d].except", d, u.Index-1))
		}
	}
}

func (c *cutter) rule(peers *[]networkingv1.NetworkPolicyPeer, ports *[]networkingv1.NetworkPolicyPort) {
	items(c, peers)
	items(c, ports)
	for i := range *peers {
		peer := &(*peers)[i]
		c.selector(peer.PodSelector)
		c.selector(peer.NamespaceSelector)
		if peer.IPBlock != nil {
			items(c, &peer.IPBlock.Except)
		}
	}
}

func (c *cutter) selector(sel *metav1.LabelSelector) {
	if sel == nil {
		return
	}
	items(c, &sel.MatchExpressions)
	for _, key := range slices.Sorted(maps.Keys(sel.MatchLabels)) {
		if c.here() {
			delete(sel.MatchLabels, key)
			return
		}
	}
	for i := range sel.MatchExpressions {
		if e := &sel.MatchExpressions[i]; len(e.Values) > 1 {
			items(c, &e.Values)
		}
	}
}
