// SPDX-License-Identifier: Apache-2.0

package random

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/policy"
)

// policy returns a policy with the i-th name of the universe; i determines its namespace.
func (g *Generator) policy(i int) *networkingv1.NetworkPolicy {
	g.valid = g.chance(85)
	np := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(i % g.size.Namespaces), Name: objectName("policy", i)},
	}
	np.Annotations = g.mode(25)
	if g.chance(50) {
		np.Spec.PodSelector = *g.podSelector()
	}
	np.Spec.PolicyTypes = g.policyTypes()
	if g.chance(70) { // else absent
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{}
		for range 1 + g.few(3) {
			np.Spec.Ingress = append(np.Spec.Ingress,
				networkingv1.NetworkPolicyIngressRule{From: g.peers(), Ports: g.ports()})
		}
	}
	if g.chance(65) {
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{}
		for range g.few(4) {
			np.Spec.Egress = append(np.Spec.Egress,
				networkingv1.NetworkPolicyEgressRule{To: g.peers(), Ports: g.ports()})
		}
	}
	return np
}

// mode returns a mode annotation in the given percentage of cases.
func (g *Generator) mode(percent int) map[string]string {
	switch {
	case g.bad(5):
		return map[string]string{policy.ModeAnnotation: pick(g.r, "", "Audit", "dry-run")}
	case !g.chance(percent):
		return nil
	}
	return map[string]string{policy.ModeAnnotation: pick(g.r, policy.Audit, policy.Audit, policy.Audit, policy.Enforce)}
}

// policyTypes returns any combination, sometimes with an unknown type.
func (g *Generator) policyTypes() []networkingv1.PolicyType {
	const ingress, egress = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	if g.bad(4) {
		return []networkingv1.PolicyType{"Sideways"}
	}
	return pick(g.r, nil, nil, []networkingv1.PolicyType{ingress}, []networkingv1.PolicyType{egress},
		[]networkingv1.PolicyType{ingress, egress}, []networkingv1.PolicyType{egress, ingress})
}

// bad says whether to make something invalid, in the given percentage of cases, if policies may be invalid.
func (g *Generator) bad(percent int) bool { return !g.valid && g.chance(percent) }

// peers returns the peers of a rule: absent, empty, few, adjacent blocks, or more whole namespaces than an isolation
// has shared sets for.
func (g *Generator) peers() []networkingv1.NetworkPolicyPeer {
	switch {
	case g.chance(12):
		return nil
	case g.chance(4):
		return []networkingv1.NetworkPolicyPeer{}
	case g.chance(8):
		return g.blocks()
	case g.chance(6):
		var peers []networkingv1.NetworkPolicyPeer
		for range 5 + g.r.IntN(4) {
			peers = append(peers, networkingv1.NetworkPolicyPeer{NamespaceSelector: g.namespaceSelector()})
		}
		return peers
	}
	var peers []networkingv1.NetworkPolicyPeer
	for range 1 + g.few(4) {
		peers = append(peers, g.peer())
	}
	return peers
}

// peer returns a peer of any kind.
func (g *Generator) peer() networkingv1.NetworkPolicyPeer {
	switch {
	case g.bad(5):
		return networkingv1.NetworkPolicyPeer{}
	case g.bad(5):
		return networkingv1.NetworkPolicyPeer{IPBlock: g.ipBlock(), PodSelector: g.podSelector()}
	}
	switch g.r.IntN(10) {
	case 0, 1, 2:
		return networkingv1.NetworkPolicyPeer{IPBlock: g.ipBlock()}
	case 3, 6:
		return networkingv1.NetworkPolicyPeer{PodSelector: g.podSelector(), NamespaceSelector: g.namespaceSelector()}
	case 4:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: g.namespaceSelector()}
	case 5:
		return networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	}
	return networkingv1.NetworkPolicyPeer{PodSelector: g.podSelector()}
}

func (g *Generator) podSelector() *metav1.LabelSelector {
	return g.selector(map[string][]string{"app": {"web", "web", "db", "db", "cache", "none"},
		"tier": {"front", "back", ""}, "absent": {"x"}})
}

func (g *Generator) namespaceSelector() *metav1.LabelSelector {
	return g.selector(map[string][]string{"team": {"red", "red", "blue", "green", "none"}, "env": {"prod", "test", ""},
		"absent": {"x"}})
}

// selector returns a selector over the values of some keys: empty, by labels, by expressions or both.
func (g *Generator) selector(values map[string][]string) *metav1.LabelSelector {
	sel := &metav1.LabelSelector{}
	key := func() string {
		for { // map order does not depend on the seed
			if k := pick(g.r, "app", "app", "app", "tier", "team", "team", "team", "env", "absent"); values[k] != nil {
				return k
			}
		}
	}
	if g.chance(15) {
		return sel
	}
	if g.chance(50) {
		k := key()
		sel.MatchLabels = map[string]string{k: pick(g.r, values[k]...)}
		if g.bad(4) {
			sel.MatchLabels[pick(g.r, "-bad", "app")] = "bad value"
		}
	}
	for range (1 - len(sel.MatchLabels)) + g.few(2)*g.few(1) {
		k := key()
		sel.MatchExpressions = append(sel.MatchExpressions, g.requirement(k, values[k]))
	}
	return sel
}

// requirement returns one expression of a selector.
func (g *Generator) requirement(key string, values []string) metav1.LabelSelectorRequirement {
	e := metav1.LabelSelectorRequirement{Key: key}
	e.Operator = pick(g.r, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists,
		metav1.LabelSelectorOpDoesNotExist)
	if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
		for range 1 + g.few(2) {
			e.Values = append(e.Values, pick(g.r, values...))
		}
	}
	switch {
	case g.bad(4):
		e.Operator = "Like"
	case g.bad(4) && e.Values != nil:
		e.Values = nil
	case g.bad(4) && e.Values == nil:
		e.Values = []string{"web"}
	case g.bad(4):
		e.Key = "not a key"
	}
	return e
}

// ports returns the ports of a rule: absent, empty, few, or more than translate turns into elements.
func (g *Generator) ports() []networkingv1.NetworkPolicyPort {
	switch {
	case g.chance(25):
		return nil
	case g.chance(4):
		return []networkingv1.NetworkPolicyPort{}
	case g.chance(5):
		var ports []networkingv1.NetworkPolicyPort
		for i := range 9 + g.r.IntN(3) {
			ports = append(ports, networkingv1.NetworkPolicyPort{Port: number(1000 + 2*i)})
		}
		return ports
	}
	if g.chance(1) {
		return g.manyPorts()
	}
	var ports []networkingv1.NetworkPolicyPort
	for range 1 + g.few(4) {
		ports = append(ports, g.port())
	}
	return ports
}

// manyPorts returns more ports than translate writes into a rule, of several protocols, up to both ends.
func (g *Generator) manyPorts() []networkingv1.NetworkPolicyPort {
	var ports []networkingv1.NetworkPolicyPort
	for i := range 300 {
		p := networkingv1.NetworkPolicyPort{Port: number(pick(g.r, 1, 65535-2*299) + 2*i)}
		p.Protocol = new(pick(g.r, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP,
			corev1.ProtocolSCTP))
		if g.chance(1) {
			p.EndPort = new(p.Port.IntVal)
		}
		ports = append(ports, p)
	}
	return append(ports, g.port())
}

func number(n int) *intstr.IntOrString { v := intstr.FromInt32(int32(n)); return &v }

func name(s string) *intstr.IntOrString { v := intstr.FromString(s); return &v }

// port returns a port of any kind.
func (g *Generator) port() networkingv1.NetworkPolicyPort {
	if g.bad(8) {
		return g.badPort()
	}
	var p networkingv1.NetworkPolicyPort
	if g.chance(60) {
		p.Protocol = new(pick(g.r, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP))
	}
	switch first := pick(g.r, 80, 80, 80, 8080, 8080, 53, 1, 79, 81, 1000, 8081, 65534, 65535); g.r.IntN(16) {
	case 0: // every port of the protocol
	case 1, 2, 3, 4:
		p.Port = name(pick(g.r, "http", "http", "dns", "admin", "nobody"))
	case 5, 6:
		p.Port = number(first)
		p.EndPort = new(int32(min(65535, first+pick(g.r, 0, 1, 2, 100, 8000, 65535))))
	default:
		p.Port = number(first)
	}
	return p
}

// badPort returns a port that does not compile.
func (g *Generator) badPort() networkingv1.NetworkPolicyPort {
	switch g.r.IntN(8) {
	case 0:
		return networkingv1.NetworkPolicyPort{Protocol: new(corev1.Protocol("ICMP"))}
	case 1:
		return networkingv1.NetworkPolicyPort{EndPort: new(int32(80))}
	case 2:
		return networkingv1.NetworkPolicyPort{Port: number(pick(g.r, 0, -1, 65536))}
	case 3:
		return networkingv1.NetworkPolicyPort{Port: number(80), EndPort: new(int32(79))}
	case 4:
		return networkingv1.NetworkPolicyPort{Port: number(80), EndPort: new(int32(65536))}
	case 5:
		return networkingv1.NetworkPolicyPort{Port: name("http"), EndPort: new(int32(80))}
	case 6:
		return networkingv1.NetworkPolicyPort{Protocol: new(corev1.Protocol("tcp")), Port: number(80)}
	}
	return networkingv1.NetworkPolicyPort{Port: name(pick(g.r, "Not_A_Name", "", "a--b", "123"))}
}
