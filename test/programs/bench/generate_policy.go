// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/policy"
)

// kinds is how many kinds of policies there are.
const kinds = 8

// policySpec is the policy of a number in its namespace: the kinds in turn, each time for other applications.
func policySpec(k, team int) networkingv1.NetworkPolicySpec {
	app, client := application(k*7), networkingv1.NetworkPolicyPeer{PodSelector: application(k*7 + 1)}
	ofTeam := selector("team", fmt.Sprintf("team-%d", (team+k)%teams))
	switch k % kinds {
	case 0: // nothing comes in that no other policy lets in
		return networkingv1.NetworkPolicySpec{PolicyTypes: policyTypes(networkingv1.PolicyTypeIngress)}
	case 1:
		return ingress(app, rulePorts(number(8080)), client)
	case 2: // the namespaces of a team
		return ingress(app, rulePorts(name("http")), networkingv1.NetworkPolicyPeer{NamespaceSelector: ofTeam})
	case 3: // the gateways of a team
		return ingress(app, rulePorts(number(8080)),
			networkingv1.NetworkPolicyPeer{NamespaceSelector: ofTeam, PodSelector: application(0)})
	case 4: // to a database, and to ask for names
		dns := networkingv1.NetworkPolicyPeer{NamespaceSelector: selector(corev1.LabelMetadataName, namespaceName(0))}
		return networkingv1.NetworkPolicySpec{
			PodSelector: *app, PolicyTypes: policyTypes(networkingv1.PolicyTypeEgress),
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{To: []networkingv1.NetworkPolicyPeer{client}, Ports: rulePorts(number(5432))},
				{To: []networkingv1.NetworkPolicyPeer{dns}, Ports: rulePorts(udp(53), number(53))},
			},
		}
	case 5: // the world, but not the cluster
		return ingress(app, rulePorts(number(8443)),
			block("0.0.0.0/0", "10.0.0.0/8", "169.254.0.0/16"), block(fmt.Sprintf("192.168.%d.0/24", k%256)))
	case 6: // everything of the namespace can be scraped
		return ingress(&metav1.LabelSelector{}, rulePorts(name("metrics")),
			networkingv1.NetworkPolicyPeer{NamespaceSelector: selector(corev1.LabelMetadataName, namespaceName(1))})
	default: // a range of ports for the namespace's own
		return ingress(app, rulePorts(portRange(8000, 8099)),
			networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}})
	}
}

func ingress(pods *metav1.LabelSelector, ports []networkingv1.NetworkPolicyPort,
	from ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicySpec {
	return networkingv1.NetworkPolicySpec{
		PodSelector: *pods, PolicyTypes: policyTypes(networkingv1.PolicyTypeIngress),
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: from, Ports: ports}},
	}
}

func policyTypes(t ...networkingv1.PolicyType) []networkingv1.PolicyType { return t }

func selector(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func application(i int) *metav1.LabelSelector { return selector(appLabel, appName(i)) }

func block(cidr string, except ...string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: except}}
}

func rulePorts(p ...networkingv1.NetworkPolicyPort) []networkingv1.NetworkPolicyPort { return p }

func number(n int32) networkingv1.NetworkPolicyPort {
	return rulePort(corev1.ProtocolTCP, intstr.FromInt32(n))
}

func udp(n int32) networkingv1.NetworkPolicyPort {
	return rulePort(corev1.ProtocolUDP, intstr.FromInt32(n))
}

func name(s string) networkingv1.NetworkPolicyPort {
	return rulePort(corev1.ProtocolTCP, intstr.FromString(s))
}

func portRange(first, last int32) networkingv1.NetworkPolicyPort {
	p := number(first)
	p.EndPort = &last
	return p
}

func rulePort(proto corev1.Protocol, port intstr.IntOrString) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: &proto, Port: &port}
}

// extraPolicy allows another application to reach that of a pod.
func (z size) extraPolicy(p policy.Pod) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "extra"},
		Spec: ingress(selector(appLabel, p.Labels[appLabel]), rulePorts(number(8081)),
			networkingv1.NetworkPolicyPeer{PodSelector: application(3)}),
	}
}

// everyPod is all pods of all namespaces.
func everyPod() []networkingv1.NetworkPolicyPeer {
	return []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
}
