// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

// Rule is an ingress or egress rule of a policy, as it is written.
type Rule struct {
	RuleRef
	Peers []networkingv1.NetworkPolicyPeer
	Ports []networkingv1.NetworkPolicyPort
}

// Rules returns a policy's rules for a direction. What they hold is the policy's.
func Rules(np *networkingv1.NetworkPolicy, d Direction) []Rule {
	var all []Rule
	for i, r := range rulesOf(np, d) {
		all = append(all, Rule{RuleRef{nameOf(np), d, i}, r.peers, r.ports})
	}
	return all
}

// Fault returns what is not valid in the rule, as the path of the field and what is wrong, or "". A rule with anything
// that is not valid allows nothing.
func (r Rule) Fault() string { return policyRule{r.Direction, r.Peers, r.Ports}.fault() }

// Isolates says whether a policy isolates the pods that it selects in a direction.
func Isolates(np *networkingv1.NetworkPolicy, d Direction) bool { return appliesTo(np, d) }

// Selects says whether a policy selects a pod of its namespace that has the labels.
func Selects(np *networkingv1.NetworkPolicy, labels map[string]string) bool {
	return selectsAtLeast(&np.Spec.PodSelector, labels)
}

// ProtocolOf returns the IANA number of a port's protocol, or 0 if it is none that a policy can name.
func ProtocolOf(p networkingv1.NetworkPolicyPort) uint8 { return protocolOf(p) }

// Network returns the network that a valid CIDR of an ipBlock means, or the zero prefix. An IPv4-mapped one is one of
// IPv4.
func Network(cidr string) netip.Prefix {
	n := network(cidr)
	if n == nil {
		return netip.Prefix{}
	}
	bits, width := n.Mask.Size()
	if four := n.IP.To4(); four != nil {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(four)), bits-(width-32))
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(n.IP)), bits)
}
