// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/policy"
)

// chainPerPolicy writes the cluster's policies as most programs of this kind do, as good as that form allows: one
// lookup finds the chain of the pod, which jumps to the chain of each policy that selects it, which has a rule for each
// rule of the policy, with a set of its peers' addresses. It supports what the worlds here need: ingress, IPv4,
// podSelectors of the policy's namespace, ipBlocks without except, single ports.
func chainPerPolicy(c *policy.Cluster) (string, error) {
	w := writer{cluster: c, selected: make(map[netip.Addr][]string)}
	for _, np := range c.Policies {
		if err := w.policy(np); err != nil {
			return "", fmt.Errorf("policy %s: %w", np.Name, err)
		}
	}
	w.dispatch()
	return "table inet chains {\n" + w.text.String() + "}\n", nil
}

type writer struct {
	cluster  *policy.Cluster
	text     strings.Builder
	selected map[netip.Addr][]string // the chains of the policies that select a pod of the node
}

// policy writes the sets and the chain of a policy.
func (w *writer) policy(np *networkingv1.NetworkPolicy) error {
	chain := "ingress-" + np.Name
	var rules strings.Builder
	for i, r := range np.Spec.Ingress {
		set := fmt.Sprintf("%s-%d", chain, i)
		peers, interval, err := w.peers(r.From)
		if err != nil {
			return err
		}
		flags := ""
		if interval {
			flags = "flags interval; "
		}
		fmt.Fprintf(&w.text, "set %s { type ipv4_addr; %selements = { %s }; }\n", set, flags, strings.Join(peers, ", "))
		for _, p := range r.Ports {
			fmt.Fprintf(&rules, "  ip saddr @%s %s dport %d accept\n", set, protocol(p.Protocol), p.Port.IntValue())
		}
	}
	fmt.Fprintf(&w.text, "chain %s {\n%s}\n", chain, rules.String())
	ips, err := w.addresses(&np.Spec.PodSelector, nodeName)
	for _, ip := range ips {
		w.selected[ip] = append(w.selected[ip], chain)
	}
	return err
}

// peers returns the elements of a rule's set, and whether it has intervals.
func (w *writer) peers(from []networkingv1.NetworkPolicyPeer) (elements []string, interval bool, err error) {
	for _, peer := range from {
		if peer.IPBlock != nil {
			elements, interval = append(elements, peer.IPBlock.CIDR), true
			continue
		}
		ips, err := w.addresses(peer.PodSelector, "")
		if err != nil {
			return nil, false, err
		}
		for _, ip := range ips {
			elements = append(elements, ip.String())
		}
	}
	return elements, interval, nil
}

// addresses returns the addresses of the pods that a selector selects, on a node or, if that is "", anywhere.
func (w *writer) addresses(selector *metav1.LabelSelector, node string) ([]netip.Addr, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	for _, p := range w.cluster.Pods {
		if (node == "" || p.Node == node) && s.Matches(labels.Set(p.Labels)) {
			ips = append(ips, p.IPs...)
		}
	}
	return ips, nil
}

func protocol(p *corev1.Protocol) string {
	if p == nil {
		return "tcp"
	}
	return strings.ToLower(string(*p))
}

// dispatch writes the chains of the pods, the map that leads to them, and the base chain.
func (w *writer) dispatch() {
	var elements []string
	for _, p := range w.cluster.Pods {
		chains := w.selected[p.IPs[0]]
		if len(chains) == 0 {
			continue
		}
		fmt.Fprintf(&w.text, "chain pod-%s {\n", p.Name)
		for _, c := range chains {
			fmt.Fprintf(&w.text, "  jump %s\n", c)
		}
		w.text.WriteString("  drop\n}\n")
		elements = append(elements, fmt.Sprintf("%s : goto pod-%s", p.IPs[0], p.Name))
	}
	fmt.Fprintf(&w.text, `map pods { type ipv4_addr : verdict; elements = { %s }; }
chain forward {
  type filter hook forward priority filter; policy accept;
  ct state established,related accept
  ip daddr vmap @pods
}
`, strings.Join(elements, ", "))
}
