// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

const (
	nodeName = "node"
	shop     = "shop" // the namespace of all pods of a world
)

// A world is a cluster that differs from others in one number, and a connection that its policies allow.
type world struct {
	policy.Cluster
	clients []netip.Addr // from which the connection may come
	server  netip.AddrPort
	free    netip.AddrPort // on the same node, of a pod that no policy selects
	bounds  tier.Bounds    // of lists; none are the default
}

// newWorld has only the server, and the pod that no policy selects.
func newWorld() *world {
	w := &world{Cluster: policy.Cluster{Namespaces: map[string]map[string]string{shop: {}}}}
	w.server = netip.AddrPortFrom(w.pod(nodeName, "server"), 80)
	w.free = netip.AddrPortFrom(w.pod(nodeName, "free"), 80)
	return w
}

// podRange has the addresses of the node's pods, and of no others.
var podRange = netip.MustParsePrefix("10.100.0.0/16")

// pod adds a running pod of an application and returns its address.
func (w *world) pod(node, app string) netip.Addr {
	i := len(w.Pods) + 1
	of := podRange.Addr().As4()[1]
	if node != nodeName {
		of += 10
	}
	ip := netip.AddrFrom4([4]byte{10, of + byte(i>>16), byte(i >> 8), byte(i)})
	w.Pods = append(w.Pods, policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: shop, Name: fmt.Sprintf("%s-%d", app, i)},
		Node:           node, Labels: map[string]string{"app": app}, IPs: []netip.Addr{ip}, Running: true,
	})
	return ip
}

// policy adds a policy with ingress rules for an application.
func (w *world) policy(app string, rules ...networkingv1.NetworkPolicyIngressRule) {
	w.Policies = append(w.Policies, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: fmt.Sprintf("policy-%d", len(w.Policies))},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: *selectApp(app), Ingress: rules},
	})
}

func selectApp(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// rule allows peers on a UDP port.
func rule(port uint16, peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicyIngressRule {
	udp, number := corev1.ProtocolUDP, intstr.FromInt32(int32(port))
	return networkingv1.NetworkPolicyIngressRule{
		From:  peers,
		Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &number}},
	}
}

func pods(app string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{PodSelector: selectApp(app)}
}

// spread returns at most some of the addresses, evenly spaced. With a single one, its element would always be in the
// processor's cache.
func spread(all []netip.Addr) []netip.Addr {
	const some = 1024
	if len(all) <= some {
		return all
	}
	out := make([]netip.Addr, 0, some)
	for i := range some {
		out = append(out, all[i*len(all)/some])
	}
	return out
}

// withPolicies is n policies on the server, each for one client application. The client of the one in the middle
// connects.
func withPolicies(n int) *world {
	w := newWorld()
	for i := range n {
		app := fmt.Sprintf("client-%d", i)
		ip := w.pod("other", app)
		w.policy("server", rule(80, pods(app)))
		if i == n/2 {
			w.clients = append(w.clients, ip)
		}
	}
	return w
}

// withRules is one policy with n rules, each for one client application and its own port. The client of the one in the
// middle connects.
func withRules(n int) *world {
	w := newWorld()
	var rules []networkingv1.NetworkPolicyIngressRule
	for i := range n {
		app, port := fmt.Sprintf("client-%d", i), uint16(8000+i)
		ip := w.pod("other", app)
		rules = append(rules, rule(port, pods(app)))
		if i == n/2 {
			w.clients = append(w.clients, ip)
			w.server = netip.AddrPortFrom(w.server.Addr(), port)
		}
	}
	w.policy("server", rules...)
	return w
}

// withPeers is one policy with one rule that n pods match.
func withPeers(n int) *world {
	w := newWorld()
	var clients []netip.Addr
	for range n {
		clients = append(clients, w.pod("other", "client"))
	}
	w.clients = spread(clients)
	w.policy("server", rule(80, pods("client")))
	return w
}

// withBlocks is one policy with one rule of n CIDRs that neither touch nor overlap.
func withBlocks(n int) *world {
	w := newWorld()
	var peers []networkingv1.NetworkPolicyPeer
	var clients []netip.Addr
	for i := range n {
		base := netip.AddrFrom4([4]byte{172, byte(i >> 7), byte(i << 1), 0})
		peers = append(peers,
			networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: netip.PrefixFrom(base, 24).String()}})
		clients = append(clients, base.Next())
	}
	w.clients = spread(clients)
	w.policy("server", rule(80, peers...))
	return w
}

// withLocalPods is n pods on the node, each an application with its own policy. The one in the middle is the server.
func withLocalPods(n int) *world {
	w := newWorld()
	for i := range n {
		app := "server"
		if i != n/2 {
			app = fmt.Sprintf("app-%d", i)
			w.pod(nodeName, app)
		}
		client := "client-of-" + app
		ip := w.pod("other", client)
		w.policy(app, rule(80, pods(client)))
		if i == n/2 {
			w.clients = append(w.clients, ip)
		}
	}
	return w
}

// withOutsiders is one policy, and n pods of the cluster outside any policy.
func withOutsiders(n int) *world {
	w := withPolicies(1)
	for range n {
		w.pod("other", "outsider")
	}
	return w
}

// everyPort allows peers on every port.
func everyPort(peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{From: peers}
}
