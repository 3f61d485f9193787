// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// rulesOfTier is how many rules a ClusterNetworkPolicy has at most.
const rulesOfTier = 25

// withTiers is n ClusterNetworkPolicies with 25 rules on the server in each tier, each rule for one client application
// and, in each policy, a different port. The connection matches a rule of the Baseline policy in the middle, and no
// Admin rule; a last policy denies what no rule accepts.
func withTiers(n int) *world {
	w := newWorld()
	var clients []netip.Addr
	for j := range rulesOfTier {
		clients = append(clients, w.pod("other", fmt.Sprintf("client-%d", j)))
	}
	w.clients = clients
	stranger := w.pod("other", "stranger")
	for i := range w.Pods {
		if w.Pods[i].IPs[0] == stranger { // the one that must not be let in
			w.Pods[i].IPs[0] = netip.AddrFrom4([4]byte{192, 0, 2, 1})
		}
	}
	for i := range n {
		for tier, first := range map[v1alpha2.Tier]int{v1alpha2.AdminTier: 20_000, v1alpha2.BaselineTier: 1000} {
			p := w.tierPolicy(tier, i%1000)
			for j := range rulesOfTier {
				port := v1alpha2.Port{Number: int32(first + 2*i)} // what touches would be one range
				p.Spec.Ingress = append(p.Spec.Ingress, v1alpha2.ClusterNetworkPolicyIngressRule{
					Action: v1alpha2.ClusterNetworkPolicyRuleActionAccept,
					From: []v1alpha2.ClusterNetworkPolicyIngressPeer{{Pods: &v1alpha2.NamespacedPod{
						PodSelector: *selectApp(fmt.Sprintf("client-%d", j)),
					}}},
					Protocols: []v1alpha2.ClusterNetworkPolicyProtocol{{
						UDP: &v1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: &port},
					}},
				})
			}
		}
	}
	last := w.tierPolicy(v1alpha2.BaselineTier, 1000)
	last.Spec.Ingress = []v1alpha2.ClusterNetworkPolicyIngressRule{{
		Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny,
		From:   []v1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}},
	}}
	w.server = netip.AddrPortFrom(w.server.Addr(), uint16(1000+n/2*2))
	return w
}

// withSequence is an Admin list for the server, checked rule by rule, with that many lines for both families. Each rule
// has 25 peers, one of which is the client, and its own port.
func withSequence(n int) *world {
	w := withTiers(0)
	w.bounds = tier.DefaultBounds()
	w.bounds.Elements = 0
	for i := range n / (2 * rulesOfTier) {
		p := w.tierPolicy(v1alpha2.AdminTier, i/rulesOfTier)
		port := v1alpha2.Port{Number: int32(20_000 + i)}
		r := v1alpha2.ClusterNetworkPolicyIngressRule{
			Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny,
			Protocols: []v1alpha2.ClusterNetworkPolicyProtocol{{
				UDP: &v1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: &port},
			}},
		}
		for j := range rulesOfTier {
			r.From = append(r.From, v1alpha2.ClusterNetworkPolicyIngressPeer{Pods: &v1alpha2.NamespacedPod{
				PodSelector: *selectApp(fmt.Sprintf("client-%d", j)),
			}})
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	accept := w.tierPolicy(v1alpha2.BaselineTier, 0)
	accept.Spec.Ingress = []v1alpha2.ClusterNetworkPolicyIngressRule{{
		Action: v1alpha2.ClusterNetworkPolicyRuleActionAccept,
		From: []v1alpha2.ClusterNetworkPolicyIngressPeer{{Pods: &v1alpha2.NamespacedPod{
			PodSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"stranger"},
			}}},
		}}},
	}}
	return w
}

// tierPolicy adds a ClusterNetworkPolicy for the server.
func (w *world) tierPolicy(tier v1alpha2.Tier, priority int) *v1alpha2.ClusterNetworkPolicy {
	p := &v1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", len(w.ClusterPolicies))},
		Spec: v1alpha2.ClusterNetworkPolicySpec{
			Tier: tier, Priority: int32(priority),
			Subject: v1alpha2.ClusterNetworkPolicySubject{Pods: &v1alpha2.NamespacedPod{
				PodSelector: *selectApp("server"),
			}},
		},
	}
	w.ClusterPolicies = append(w.ClusterPolicies, policy.ClusterPolicy{ClusterNetworkPolicy: p})
	return p
}
