// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Tiered returns a random cluster with ClusterNetworkPolicies and nodes that they select.
func Tiered(r *rand.Rand, size Size) *policy.Cluster {
	g := NewGenerator(r, size)
	c := g.Cluster()
	g.AddTiers(c)
	return c
}

// AddTiers adds ClusterNetworkPolicies, and nodes that they select, to a cluster of the generator, whose events then
// include them.
func (g *Generator) AddTiers(c *policy.Cluster) {
	g.tiers = true
	for _, name := range Nodes() {
		c.NodePeers = append(c.NodePeers, g.nodePeer(name))
	}
	for i := range g.size.Policies {
		if g.chance(80) {
			c.ClusterPolicies = append(c.ClusterPolicies, g.clusterPolicy(i))
		}
	}
}

// nodePeer returns a node. It has addresses of hostNetwork pods, and sometimes one that a pod claims.
func (g *Generator) nodePeer(name string) policy.NodePeer {
	n := policy.NodePeer{Name: name, Labels: map[string]string{}}
	if g.chance(70) {
		n.Labels["env"] = pick(g.r, "prod", "test")
	}
	for _, a := range addrs("192.168.0.1", "fd00::1", "192.168.0.2", "2001:db8::1") {
		if g.chance(40) {
			n.Addresses = append(n.Addresses, a)
		}
	}
	if g.chance(20) {
		n.Addresses = append(n.Addresses, pick(g.r, g.pods[g.r.IntN(2)]...))
	}
	return n
}

// clusterPolicy returns a policy with the i-th name of the universe. There are few priorities, so some are equal.
func (g *Generator) clusterPolicy(i int) policy.ClusterPolicy {
	g.valid = g.chance(85)
	p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{
		TypeMeta: metav1.TypeMeta{
			APIVersion: v1alpha2.GroupVersion.String(), Kind: "ClusterNetworkPolicy",
		},
		ObjectMeta: metav1.ObjectMeta{Name: objectName("cluster", i), Annotations: g.mode(25)},
	}}
	p.Spec.Tier = pick(g.r, v1alpha2.AdminTier, v1alpha2.BaselineTier)
	p.Spec.Priority = pick[int32](g.r, 0, 1, 1, 2, 10, 10, 1000)
	p.Spec.Subject = g.subject()
	switch {
	case g.bad(3):
		p.Spec.Tier = "Middle"
	case g.bad(3):
		p.Unread = append(p.Unread, unknown(policy.Egress, -1, "spec.sunset"))
	}
	for i := range g.few(4) {
		r, unread := g.clusterRule(policy.Egress, i)
		p.Spec.Egress, p.Unread = append(p.Spec.Egress, r), append(p.Unread, unread...)
	}
	for i := range g.few(4) {
		r, unread := g.clusterRule(policy.Ingress, i)
		rule := v1alpha2.ClusterNetworkPolicyIngressRule{Name: r.Name, Action: r.Action, Protocols: r.Protocols}
		for _, to := range r.To {
			rule.From = append(rule.From, v1alpha2.ClusterNetworkPolicyIngressPeer{Namespaces: to.Namespaces,
				Pods: to.Pods})
		}
		p.Spec.Ingress, p.Unread = append(p.Spec.Ingress, rule), append(p.Unread, unread...)
	}
	return p
}

func unknown(d policy.Direction, index int, path string) policy.Unread {
	return policy.Unread{Direction: d, Index: index, Path: path, Problem: "unknown field"}
}

func (g *Generator) subject() v1alpha2.ClusterNetworkPolicySubject {
	var s v1alpha2.ClusterNetworkPolicySubject
	namespaces, pods := g.chance(50), g.bad(3)
	if namespaces && !g.bad(5) {
		s.Namespaces = g.namespaceSelector()
	}
	if !namespaces || pods {
		s.Pods = g.namespacedPod()
	}
	return s
}

func (g *Generator) namespacedPod() *v1alpha2.NamespacedPod {
	return &v1alpha2.NamespacedPod{NamespaceSelector: *g.namespaceSelector(), PodSelector: *g.podSelector()}
}

// clusterRule returns a rule, and its unknown fields. Ingress rules have selectors only.
func (g *Generator) clusterRule(d policy.Direction, i int) (v1alpha2.ClusterNetworkPolicyEgressRule, []policy.Unread) {
	r := v1alpha2.ClusterNetworkPolicyEgressRule{Name: pick(g.r, "", "no-ssh", "all"),
		Action: pick(g.r, v1alpha2.ClusterNetworkPolicyRuleActionAccept, v1alpha2.ClusterNetworkPolicyRuleActionDeny,
			v1alpha2.ClusterNetworkPolicyRuleActionPass)}
	if g.bad(3) {
		r.Action = "Log"
	}
	for range 1 + g.few(3) {
		r.To = append(r.To, g.clusterPeer(d))
	}
	if g.bad(3) {
		r.To = nil
	}
	named := g.bad(15) || !slices.ContainsFunc(r.To, func(p v1alpha2.ClusterNetworkPolicyEgressPeer) bool {
		return p.Nodes != nil || len(p.Networks) > 0
	})
	if g.chance(70) {
		for range 1 + g.few(pick(g.r, 3, 3, 3, 24)) {
			r.Protocols = append(r.Protocols, g.protocol(named))
		}
	}
	field := map[policy.Direction]string{policy.Egress: "to", policy.Ingress: "from"}[d]
	switch rule := fmt.Sprintf("spec.%s[%d].", d, i); {
	case g.bad(5) && len(r.To) > 0:
		r.To[0] = v1alpha2.ClusterNetworkPolicyEgressPeer{}
		return r, []policy.Unread{unknown(d, i, rule+field+"[0].services")}
	case g.bad(5):
		return r, []policy.Unread{unknown(d, i, rule+"except")}
	}
	return r, nil
}

// clusterPeer returns a peer of any kind that a direction has.
func (g *Generator) clusterPeer(d policy.Direction) v1alpha2.ClusterNetworkPolicyEgressPeer {
	var p v1alpha2.ClusterNetworkPolicyEgressPeer
	kinds := 3
	if d == policy.Egress {
		kinds = 8
	}
	switch g.r.IntN(kinds) {
	case 0:
		p.Namespaces = g.namespaceSelector()
	case 1, 2:
		p.Pods = g.namespacedPod()
	case 3:
		p.Nodes = g.selector(map[string][]string{"env": {"prod", "test"}, "absent": {"x"}})
	default:
		p.Networks = g.networks()
	}
	switch {
	case g.bad(4):
		return v1alpha2.ClusterNetworkPolicyEgressPeer{}
	case g.bad(4):
		p.Namespaces, p.Pods = g.namespaceSelector(), g.namespacedPod()
	case g.bad(4) && d == policy.Egress:
		return v1alpha2.ClusterNetworkPolicyEgressPeer{DomainNames: []v1alpha2.DomainName{"example.com"}}
	}
	return p
}

// networks returns CIDRs that overlap each other, pods' addresses and the edges of the families; sometimes of both
// families.
func (g *Generator) networks() []v1alpha2.CIDR {
	var all []v1alpha2.CIDR
	for range 1 + g.few(5) {
		p := g.prefix()
		if g.chance(10) {
			p = netip.MustParsePrefix(pick(g.r, "0.0.0.0/0", "::/0"))
		}
		switch {
		case p.Addr().Is4In6() || g.bad(4):
			if g.valid {
				continue // another one
			}
			all = append(all, v1alpha2.CIDR(pick(g.r, "10.0.0.0", "10.0.0.0/33", "::ffff:10.0.0.0/104", "x/8")))
		case g.chance(15):
			all = append(all, v1alpha2.CIDR(netip.PrefixFrom(nft.LastAddr(p), p.Bits()).String()))
		default:
			all = append(all, v1alpha2.CIDR(p.String()))
		}
	}
	if all == nil {
		all = append(all, "10.0.0.0/24")
	}
	return slices.Compact(all)
}

// protocol returns a protocol, sometimes by named port if the rule may have one.
func (g *Generator) protocol(named bool) v1alpha2.ClusterNetworkPolicyProtocol {
	if g.bad(4) {
		return pick(g.r, v1alpha2.ClusterNetworkPolicyProtocol{},
			v1alpha2.ClusterNetworkPolicyProtocol{TCP: &v1alpha2.ClusterNetworkPolicyProtocolTCP{}})
	}
	if named && g.chance(35) {
		return v1alpha2.ClusterNetworkPolicyProtocol{DestinationNamedPort: pick(g.r, "http", "http", "dns", "admin",
			"nobody")}
	}
	first := pick[int32](g.r, 80, 80, 80, 8080, 8080, 53, 1, 79, 81, 1000, 8081, 65534, 65535)
	port := &v1alpha2.Port{Number: first}
	if first < 65535 && g.chance(35) {
		port = &v1alpha2.Port{Range: &v1alpha2.PortRange{Start: first,
			End: min(65535, first+pick[int32](g.r, 1, 2, 100, 8000, 65535))}}
	}
	switch {
	case g.bad(4):
		port.Number = 65536
	case g.bad(4):
		port = &v1alpha2.Port{Range: &v1alpha2.PortRange{Start: 80, End: pick[int32](g.r, 79, 80, 65536)}}
	}
	var p v1alpha2.ClusterNetworkPolicyProtocol
	switch g.r.IntN(5) {
	case 0:
		p.UDP = &v1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}
	case 1:
		p.SCTP = &v1alpha2.ClusterNetworkPolicyProtocolSCTP{DestinationPort: port}
	default:
		p.TCP = &v1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}
	}
	return p
}

// tierEvent is [Generator.Event] about ClusterNetworkPolicies and the nodes that they select.
func (g *Generator) tierEvent(c *policy.Cluster) Event {
	e := Event{Kind: ClusterPolicyKind, Delete: g.chance(30)}
	if g.chance(20) {
		e.Kind, e.NodePeer = NodePeerKind, g.nodePeer(pick(g.r, Nodes()[0], Nodes()[1]))
		e.Name.Name = e.NodePeer.Name
		return e
	}
	e.ClusterPolicy = g.clusterPolicy(g.r.IntN(g.size.Policies))
	if len(c.ClusterPolicies) > 0 && g.chance(50) { // same rules with another order, tier, subject or mode
		old, fresh := pick(g.r, c.ClusterPolicies...), e.ClusterPolicy
		changed := policy.ClusterPolicy{ClusterNetworkPolicy: old.DeepCopy(), Unread: old.Unread}
		switch g.r.IntN(4) {
		case 0:
			changed.Spec.Priority = fresh.Spec.Priority
		case 3:
			changed.Annotations = g.mode(50)
		case 1:
			changed.Spec.Tier = fresh.Spec.Tier
		case 2:
			changed.Spec.Subject = fresh.Spec.Subject
		}
		e.ClusterPolicy = changed
	}
	e.Name.Name = e.ClusterPolicy.Name
	return e
}
