// SPDX-License-Identifier: Apache-2.0

package random

import (
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Flows makes flows where a cluster's verdicts change: at its pods' addresses, at the edges of blocks and excepts and
// next to them, at the ends of the address space, and at the edges of port ranges and next to them. Half of the flows
// aim at one rule of a policy.
type Flows struct {
	r     *rand.Rand
	use   func(netip.Addr) bool
	pods  ends
	all   ends // of pods and others
	ports []uint16
	named map[string][]service // by the name in pods
	aims  []aim
	tiers bool
}

// ends are addresses: IPv4, IPv6.
type ends [2][]netip.Addr

// aim describes the flows that a rule is about.
type aim struct {
	egress   bool
	pods     ends // of the policy's namespace
	blocks   ends // the edges of the rule's blocks
	services []service
}

// service is a protocol and a port that a rule names, or a port next to it.
type service struct {
	proto uint8
	port  uint16 // 0: any
}

// NewFlows returns a source of flows of c, limited to the addresses for which use is true; nil means all.
func NewFlows(r *rand.Rand, c *policy.Cluster, use func(netip.Addr) bool) *Flows {
	f := &Flows{r: r, use: use, ports: []uint16{1, 80, 443, 65535}, named: make(map[string][]service)}
	of := make(map[string]ends) // the pods of namespaces
	for _, p := range c.Pods {
		pods := of[p.Namespace]
		for _, a := range p.IPs {
			f.add(&f.pods, a)
			f.add(&pods, a)
			f.add(&f.all, a.Prev(), a, a.Next(), netip.AddrFrom16(a.As16())) // for IPv4 also IPv4-mapped
		}
		of[p.Namespace] = pods
		for _, port := range p.Ports {
			f.ports = append(f.ports, port.Number)
			f.named[port.Name] = append(f.named[port.Name], service{port.Proto, port.Number})
		}
	}
	for _, np := range c.Policies {
		for _, r := range np.Spec.Ingress {
			f.addRule(aim{pods: of[np.Namespace]}, r.From, r.Ports)
		}
		for _, r := range np.Spec.Egress {
			f.addRule(aim{pods: of[np.Namespace], egress: true}, r.To, r.Ports)
		}
	}
	f.tiers = len(c.ClusterPolicies) > 0
	for _, p := range c.ClusterPolicies {
		f.addTier(c, p)
	}
	f.add(&f.all, addrs("8.8.8.8", "0.0.0.1", "223.255.255.254", "2001:db8::1", "::2",
		"feff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")...)
	f.add(&f.all, edgesIPv4()...)
	f.add(&f.all, edgesIPv6()...)
	return f
}

// add records addresses, except those that no flow can have.
func (f *Flows) add(list *ends, addresses ...netip.Addr) {
	for _, a := range addresses {
		if !a.IsValid() || f.use != nil && !f.use(a) {
			continue
		}
		family := 0
		if a.Is6() {
			family = 1
		}
		list[family] = append(list[family], a)
	}
}

// addRule records the edges of a rule. What does not parse has none.
func (f *Flows) addRule(a aim, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	for _, peer := range peers {
		if peer.IPBlock == nil {
			continue
		}
		for _, text := range append([]string{peer.IPBlock.CIDR}, peer.IPBlock.Except...) {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				continue
			}
			if p.Addr().Is4In6() && p.Bits() >= 96 {
				p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
			}
			first, last := p.Masked().Addr(), nft.LastAddr(p)
			f.add(&a.blocks, first.Prev(), first, first.Next(), last.Prev(), last, last.Next())
		}
	}
	for family, edges := range a.blocks {
		f.all[family] = append(f.all[family], edges...)
	}
	for _, port := range ports {
		numbers := edges(port)
		f.ports = append(f.ports, numbers...)
		for _, n := range numbers {
			a.services = append(a.services, service{protocolOf(port), n})
		}
		switch {
		case port.Port == nil:
			a.services = append(a.services, service{proto: protocolOf(port)})
		case port.Port.Type == intstr.String: // for the other protocols, too
			a.services = append(a.services, f.named[port.Port.StrVal]...)
		}
	}
	f.aims = append(f.aims, a)
}

// edges returns the ports at the edges of a policy's numeric port, and next to them.
func edges(port networkingv1.NetworkPolicyPort) []uint16 {
	var numbers []int
	if port.Port != nil && port.Port.Type == intstr.Int {
		n := port.Port.IntValue()
		numbers = append(numbers, n, n, n-1, n+1)
	}
	if port.EndPort != nil {
		n := int(*port.EndPort)
		numbers = append(numbers, n, n-1, n+1)
	}
	var valid []uint16
	for _, n := range numbers {
		if 0 < n && n < 65536 {
			valid = append(valid, uint16(n))
		}
	}
	return valid
}

// protocolOf returns the protocol number of a policy's port, or 0 if it is invalid.
func protocolOf(port networkingv1.NetworkPolicyPort) uint8 {
	switch {
	case port.Protocol == nil || *port.Protocol == corev1.ProtocolTCP:
		return nft.TCP
	case *port.Protocol == corev1.ProtocolUDP:
		return nft.UDP
	case *port.Protocol == corev1.ProtocolSCTP:
		return nft.SCTP
	}
	return 0
}

// Next returns a flow.
func (f *Flows) Next() policy.Flow {
	family := f.r.IntN(2)
	if len(f.pods[family]) == 0 {
		family = 1 - family
	}
	pods, all := f.pods[family], f.all[family]
	if len(pods) == 0 {
		pods = all
	}
	flow := policy.Flow{Src: pick(f.r, pods...), Dst: pick(f.r, pods...)}
	if flow.Src == flow.Dst {
		flow.Dst = pick(f.r, pods...) // sometimes still the same
	}
	switch n := f.r.IntN(100); {
	case n < 20:
		flow.Src = pick(f.r, all...)
	case n < 40:
		flow.Dst = pick(f.r, all...)
	case n < 42:
		flow.Dst = flow.Src
	}
	flow.Proto, flow.DstPort, flow.ICMPType = f.service(family)
	if flow.Src == flow.Dst { // other packets of a pod to itself never leave it
		flow.Service = f.tiers && f.r.IntN(2) == 0
	}
	if len(f.aims) > 0 && f.r.IntN(2) == 0 {
		f.aim(&flow, pick(f.r, f.aims...), family)
	}
	return flow
}

// aim changes the flow to one that a rule may be about: between a pod of its namespace and an edge of its blocks, if it
// has any, on one of its ports.
func (f *Flows) aim(flow *policy.Flow, a aim, family int) {
	pod, peer := &flow.Dst, &flow.Src
	if a.egress {
		pod, peer = peer, pod
	}
	if len(a.pods[family]) > 0 {
		*pod = pick(f.r, a.pods[family]...)
	}
	if len(a.blocks[family]) > 0 && f.r.IntN(2) == 0 {
		*peer = pick(f.r, a.blocks[family]...)
	}
	if len(a.services) > 0 && f.r.IntN(8) > 0 {
		s := pick(f.r, a.services...)
		if s.port == 0 {
			s.port = pick(f.r, f.ports...)
		}
		if s.proto != 0 {
			flow.Proto, flow.DstPort, flow.ICMPType = s.proto, s.port, 0
		}
	}
}

// service returns any protocol and a port or an ICMP type of it.
func (f *Flows) service(family int) (proto uint8, port uint16, icmpType uint8) {
	switch n := f.r.IntN(100); {
	case n < 50:
		proto = nft.TCP
	case n < 70:
		proto = nft.UDP
	case n < 80:
		proto = nft.SCTP
	case n < 97:
		proto, icmpType = f.icmp(family)
		return proto, 0, icmpType
	case n < 98: // the other family's
		proto, icmpType = f.icmp(1 - family)
		return proto, 0, icmpType
	default: // without ports
		return 47, 0, 0
	}
	if port = pick(f.r, f.ports...); f.r.IntN(20) == 0 {
		port = uint16(1 + f.r.IntN(65535))
	}
	return proto, port, 0
}

// icmp returns the protocol and type of an ICMP message of a family.
func (f *Flows) icmp(family int) (proto, icmpType uint8) {
	if family == 1 {
		return nft.ICMPv6, pick[uint8](f.r, 128, 128, 129, 1, 132, 133, 134, 135, 136, 137, 138)
	}
	return nft.ICMP, pick[uint8](f.r, 8, 8, 0, 3, 13, 135)
}
