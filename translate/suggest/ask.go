// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// asked is what the oracle says about connections under the cluster's policies. It asks once for connections that no
// policy can tell apart: those whose ends agree in all labels that selectors ask for and in port names, with no edge of
// a network or port range between them.
type asked struct {
	cluster  *policy.Cluster
	policies map[string][]*networkingv1.NetworkPolicy // by namespace
	keys     map[string]bool                          // label keys in selectors
	networks []netip.Addr                             // where networks begin, and the addresses after them; sorted
	ports    []int                                    // likewise

	kinds   map[string]int
	kindOf  map[*policy.Pod]int
	selects map[int][]*networkingv1.NetworkPolicy // by the kind of the pod
	answers map[question]answer
}

// question is equal for connections that share an answer.
type question struct {
	kinds, networks [2]int // of the source and the destination
	port            int
	proto, icmp     uint8
}

// answer is the oracle's answer, by direction.
type answer [2]struct {
	denied string // what denies it, or ""
	met    bool   // if all were enforced, policies would isolate the pod and allow it
}

func newAsked(c *policy.Cluster) *asked {
	a := &asked{cluster: c, policies: make(map[string][]*networkingv1.NetworkPolicy), keys: make(map[string]bool),
		kinds: make(map[string]int), kindOf: make(map[*policy.Pod]int),
		selects: make(map[int][]*networkingv1.NetworkPolicy), answers: make(map[question]answer),
		networks: []netip.Addr{netip.IPv6Unspecified()}} // where IPv4 ends
	for _, np := range c.Policies {
		a.policies[np.Namespace] = append(a.policies[np.Namespace], np)
		a.selector(&np.Spec.PodSelector)
		for _, d := range policy.Directions() {
			for _, r := range policy.Rules(np, d) {
				a.rule(r)
			}
		}
	}
	for _, p := range c.ClusterPolicies {
		a.clusterPods(p.Spec.Subject.Pods)
		for _, d := range policy.Directions() {
			for _, r := range p.Rules(d) {
				a.clusterRule(r)
			}
		}
	}
	for _, n := range c.NodePeers {
		for _, at := range n.Addresses {
			a.network(netip.PrefixFrom(at, at.BitLen()))
		}
	}
	for _, p := range c.Pods {
		for _, port := range p.Ports {
			a.span(int32(port.Number), int32(port.Number))
		}
	}
	slices.SortFunc(a.networks, netip.Addr.Compare)
	slices.Sort(a.ports)
	a.networks, a.ports = slices.Compact(a.networks), slices.Compact(a.ports)
	return a
}

// rule notes what a rule depends on.
func (a *asked) rule(r policy.Rule) {
	for _, p := range r.Peers {
		a.selector(p.PodSelector)
		if p.IPBlock != nil {
			for _, cidr := range append([]string{p.IPBlock.CIDR}, p.IPBlock.Except...) {
				a.network(policy.Network(cidr))
			}
		}
	}
	for _, p := range r.Ports {
		if p.Port != nil {
			a.span(p.Port.IntVal, cmp.Or(deref(p.EndPort), p.Port.IntVal))
		}
	}
}

// clusterRule notes what a rule of a ClusterNetworkPolicy depends on.
func (a *asked) clusterRule(r policy.ClusterRule) {
	for _, p := range r.Peers {
		a.clusterPods(p.Pods)
		for _, cidr := range p.Networks {
			n, _ := netip.ParsePrefix(string(cidr))
			a.network(n)
		}
	}
	for _, p := range r.Protocols {
		if _, port := policy.ClusterPort(p); port != nil {
			a.span(port.Number, port.Number)
			if port.Range != nil {
				a.span(port.Range.Start, port.Range.End)
			}
		}
	}
}

func (a *asked) clusterPods(p *v1alpha2.NamespacedPod) {
	if p != nil {
		a.selector(&p.PodSelector)
	}
}

func (a *asked) selector(s *metav1.LabelSelector) {
	if s == nil {
		return
	}
	for key := range s.MatchLabels {
		a.keys[key] = true
	}
	for _, r := range s.MatchExpressions {
		a.keys[r.Key] = true
	}
}

func (a *asked) network(n netip.Prefix) {
	if !n.IsValid() {
		return
	}
	a.networks = append(a.networks, n.Masked().Addr())
	last := n.Masked().Addr().AsSlice()
	for bit := n.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	if end, _ := netip.AddrFromSlice(last); end.Next().IsValid() {
		a.networks = append(a.networks, end.Next())
	}
}

func (a *asked) span(first, last int32) { a.ports = append(a.ports, int(first), int(last)+1) }

func deref(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

// kind numbers the kinds of pods that policies can tell apart.
func (a *asked) kind(p *policy.Pod) int {
	if p == nil {
		return -1
	}
	n, known := a.kindOf[p]
	if known {
		return n
	}
	var key strings.Builder
	fmt.Fprintf(&key, "%q", p.Namespace)
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		if a.keys[k] {
			fmt.Fprintf(&key, "%q%q", k, p.Labels[k])
		}
	}
	fmt.Fprint(&key, p.Ports)
	n, known = a.kinds[key.String()]
	if !known {
		n = len(a.kinds)
		a.kinds[key.String()] = n
		for _, np := range a.policies[p.Namespace] {
			if policy.Selects(np, p.Labels) {
				a.selects[n] = append(a.selects[n], np)
			}
		}
	}
	a.kindOf[p] = n
	return n
}

// selecting returns the policies that select a pod.
func (a *asked) selecting(p *policy.Pod) []*networkingv1.NetworkPolicy { return a.selects[a.kind(p)] }

// selectingEither returns the policies that select either of two pods.
func (a *asked) selectingEither(one, other *policy.Pod) []*networkingv1.NetworkPolicy {
	all := slices.Clone(a.selecting(one))
	for _, np := range a.selecting(other) {
		if one == nil || np.Namespace != one.Namespace || !policy.Selects(np, one.Labels) {
			all = append(all, np)
		}
	}
	return all
}

// between returns the index of the span between network edges that contains an address.
func (a *asked) between(at netip.Addr) int {
	n, border := slices.BinarySearchFunc(a.networks, at, netip.Addr.Compare)
	if border {
		n++
	}
	return n
}

// about returns what the oracle says about a connection between two ends.
func (a *asked) about(q policy.Flow, from, to end) answer {
	port, border := slices.BinarySearch(a.ports, int(q.DstPort))
	if border {
		port++
	}
	key := question{[2]int{a.kind(from.pod), a.kind(to.pod)}, [2]int{a.between(from.address), a.between(to.address)},
		port, q.Proto, q.ICMPType}
	is, known := a.answers[key]
	if known {
		return is
	}
	said := ask(a.cluster, a.selectingEither(from.pod, to.pod), q, from, to)
	for _, d := range policy.Directions() {
		now := decision(said, d)
		if !now.Allowed {
			is[d].denied = deniedBy(now)
		}
		if now.Audit != nil { // what is suggested goes with the policies that are only audited
			now = *now.Audit
		}
		is[d].met = now.Isolated && now.Allowed
	}
	a.answers[key] = is
	return is
}
