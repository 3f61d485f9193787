// SPDX-License-Identifier: Apache-2.0

package reading

import (
	"cmp"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// readTiers reads the enforced ClusterNetworkPolicies of a cluster, in order of evaluation.
func (r *Rules) readTiers(c *policy.Cluster) {
	for _, p := range c.ClusterPolicies {
		if c.AuditedInTier(p) {
			continue
		}
		read := &PolicyRules{Name: types.NamespacedName{Name: p.Name}, Cluster: p}
		if s := p.Spec.Subject; s.Namespaces != nil {
			read.Subjects = append(read.Subjects, r.clusterSelector(policy.AtLeast(s.Namespaces), nil))
		}
		if s := p.Spec.Subject.Pods; s != nil {
			read.Subjects = append(read.Subjects,
				r.clusterSelector(policy.AtLeast(&s.NamespaceSelector), policy.AtLeast(&s.PodSelector)))
		}
		for _, d := range policy.Directions() {
			for _, text := range p.Rules(d) {
				if rule, matches := r.readTierRule(c, text); matches {
					read.Rules[d] = append(read.Rules[d], rule)
				}
			}
			read.Counts[d] = len(read.Rules[d]) > 0
		}
		in := Admin
		if p.Tier() == v1alpha2.BaselineTier {
			in = Baseline
		}
		r.Tiers[in] = append(r.Tiers[in], read)
	}
	for _, tier := range r.Tiers {
		slices.SortFunc(tier, func(a, b *PolicyRules) int {
			return cmp.Or(cmp.Compare(a.Cluster.Spec.Priority, b.Cluster.Spec.Priority),
				CompareNames(a.Name, b.Name))
		})
	}
}

// readTierRule reads a rule, and says whether it matches anything.
func (r *Rules) readTierRule(c *policy.Cluster, text policy.ClusterRule) (read Rule, matches bool) {
	read = Rule{ClusterRef: text.ClusterRuleRef, Action: text.Action}
	if text.Fault != "" {
		read.Action, read.Fault = v1alpha2.ClusterNetworkPolicyRuleActionDeny, text.Fault
		read.AnyPeer, read.Ports = true, sets.Everything()
		return read, text.Action != v1alpha2.ClusterNetworkPolicyRuleActionAccept
	}
	for _, peer := range text.Peers {
		switch {
		case peer.Namespaces != nil:
			read.Selectors = append(read.Selectors, r.clusterSelector(peer.Namespaces, nil))
		case peer.Pods != nil:
			read.Selectors = append(read.Selectors,
				r.clusterSelector(&peer.Pods.NamespaceSelector, &peer.Pods.PodSelector))
		case peer.Nodes != nil:
			read.Blocks = append(read.Blocks, r.nodes(c, valid(peer.Nodes))...)
		}
		for _, cidr := range peer.Networks {
			p, _ := netip.ParsePrefix(string(cidr)) // it is valid
			read.Blocks = append(read.Blocks, r.networks(sets.Union(sets.SpanOf(p))))
		}
	}
	if len(text.Protocols) == 0 {
		read.Ports = sets.Everything()
	}
	for _, p := range text.Protocols {
		switch proto, port := policy.ClusterPort(p); {
		case port == nil:
			for _, proto := range sets.WithPorts() {
				read.Named = append(read.Named, policy.NamedPort{Name: p.DestinationNamedPort, Proto: proto})
			}
			r.names[p.DestinationNamedPort] = true
		case port.Range != nil:
			read.open(proto, port.Range.Start, port.Range.End)
		default:
			read.open(proto, port.Number, port.Number)
		}
	}
	read.Ports = read.Ports.Union(sets.Ports{})
	return read, true
}

// nodes returns the numbers of the addresses, as blocks of each family, of the nodes that a selector matches.
func (r *Rules) nodes(c *policy.Cluster, s labels.Selector) []int {
	var spans []sets.Span
	for _, n := range c.NodePeers {
		if s.Matches(labels.Set(n.Labels)) {
			for _, a := range n.Addresses {
				spans = append(spans, sets.Span{First: a, Last: a})
			}
		}
	}
	var numbers []int
	for _, f := range sets.Families() {
		if of := sets.Union(spans...).In(f); len(of) > 0 {
			numbers = append(numbers, r.networks(of))
		}
	}
	return numbers
}

// clusterSelector returns the number of a peer or subject of a ClusterNetworkPolicy; without a pod selector, all pods
// match.
func (r *Rules) clusterSelector(namespaces, pods *metav1.LabelSelector) int {
	return r.selector(selector{Namespaces: valid(namespaces), pods: valid(pods)})
}
