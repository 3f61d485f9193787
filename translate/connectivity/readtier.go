// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// readTiers reads the ClusterNetworkPolicies of a cluster that are enforced, in the order in which they are asked.
func (r *rules) readTiers(c *policy.Cluster) {
	for _, p := range c.ClusterPolicies {
		if c.AuditedInTier(p) {
			continue
		}
		read := &policyRules{name: types.NamespacedName{Name: p.Name}, cluster: p}
		if s := p.Spec.Subject; s.Namespaces != nil {
			read.subjects = append(read.subjects, r.clusterSelector(policy.AtLeast(s.Namespaces), nil))
		}
		if s := p.Spec.Subject.Pods; s != nil {
			read.subjects = append(read.subjects,
				r.clusterSelector(policy.AtLeast(&s.NamespaceSelector), policy.AtLeast(&s.PodSelector)))
		}
		for _, d := range policy.Directions() {
			for _, text := range p.Rules(d) {
				if rule, matches := r.readTierRule(c, text); matches {
					read.rules[d] = append(read.rules[d], rule)
				}
			}
			read.counts[d] = len(read.rules[d]) > 0
		}
		in := admin
		if p.Tier() == v1alpha2.BaselineTier {
			in = baseline
		}
		r.tiers[in] = append(r.tiers[in], read)
	}
	for _, tier := range r.tiers {
		slices.SortFunc(tier, func(a, b *policyRules) int {
			return cmp.Or(cmp.Compare(a.cluster.Spec.Priority, b.cluster.Spec.Priority),
				compareNames(a.name, b.name))
		})
	}
}

// readTierRule reads a rule, and says whether it matches anything.
func (r *rules) readTierRule(c *policy.Cluster, text policy.ClusterRule) (read rule, matches bool) {
	read = rule{clusterRef: text.ClusterRuleRef, action: text.Action}
	if text.Fault != "" {
		read.action, read.fault = v1alpha2.ClusterNetworkPolicyRuleActionDeny, text.Fault
		read.anyPeer, read.ports = true, everything()
		return read, text.Action != v1alpha2.ClusterNetworkPolicyRuleActionAccept
	}
	for _, peer := range text.Peers {
		switch {
		case peer.Namespaces != nil:
			read.selectors = append(read.selectors, r.clusterSelector(peer.Namespaces, nil))
		case peer.Pods != nil:
			read.selectors = append(read.selectors,
				r.clusterSelector(&peer.Pods.NamespaceSelector, &peer.Pods.PodSelector))
		case peer.Nodes != nil:
			read.blocks = append(read.blocks, r.nodes(c, valid(peer.Nodes))...)
		}
		for _, cidr := range peer.Networks {
			p, _ := netip.ParsePrefix(string(cidr)) // it is valid
			read.blocks = append(read.blocks, r.networks(union(spanOf(p))))
		}
	}
	if len(text.Protocols) == 0 {
		read.ports = everything()
	}
	for _, p := range text.Protocols {
		switch proto, port := policy.ClusterPort(p); {
		case port == nil:
			for _, proto := range withPorts() {
				read.named = append(read.named, policy.NamedPort{Name: p.DestinationNamedPort, Proto: proto})
			}
			r.names[p.DestinationNamedPort] = true
		case port.Range != nil:
			read.open(proto, port.Range.Start, port.Range.End)
		default:
			read.open(proto, port.Number, port.Number)
		}
	}
	read.ports = read.ports.union(Ports{})
	return read, true
}

// nodes returns the numbers of the addresses of the nodes that a selector matches, as blocks: of each family, if there
// are any.
func (r *rules) nodes(c *policy.Cluster, s labels.Selector) []int {
	var spans []Span
	for _, n := range c.NodePeers {
		if s.Matches(labels.Set(n.Labels)) {
			for _, a := range n.Addresses {
				spans = append(spans, Span{a, a})
			}
		}
	}
	var numbers []int
	for _, f := range families() {
		if of := union(spans...).in(f); len(of) > 0 {
			numbers = append(numbers, r.networks(of))
		}
	}
	return numbers
}

// clusterSelector returns the number of a peer or subject of a ClusterNetworkPolicy; without a selector of pods, they
// all match.
func (r *rules) clusterSelector(namespaces, pods *metav1.LabelSelector) int {
	return r.selector(selector{namespaces: valid(namespaces), pods: valid(pods)})
}
