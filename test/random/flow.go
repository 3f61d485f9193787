// SPDX-License-Identifier: Apache-2.0

package random

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
)

// Flows makes flows between the places of a cluster where verdicts change: its pods' addresses, the edges of blocks and excepts and
// the addresses beside them, the ends of the address space; the edges of port ranges and the ports beside them.
type Flows struct {
	r     *rand.Rand
	use   func(netip.Addr) bool
	pods  [2][]netip.Addr // IPv4, IPv6
	all   [2][]netip.Addr // of pods and others
	ports []uint16
}

// NewFlows returns a source of flows of c, with only the addresses that use wants; nil wants all.
func NewFlows(r *rand.Rand, c *translate.Cluster, use func(netip.Addr) bool) *Flows {
	f := &Flows{r: r, use: use}
	for _, p := range c.Pods {
		for _, a := range p.IPs {
			f.add(&f.pods, a)
			f.addAround(a)
		}
		for _, port := range p.Ports {
			f.addPort(int(port.Number))
		}
	}
	for _, np := range c.Policies {
		for _, r := range np.Spec.Ingress {
			f.addRule(r.From, r.Ports)
		}
		for _, r := range np.Spec.Egress {
			f.addRule(r.To, r.Ports)
		}
	}
	for _, a := range addrs("0.0.0.0", "255.255.255.255", "8.8.8.8", "0.0.0.1", "223.255.255.254", "::", "2001:db8::1", "::2",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "feff:ffff:ffff:ffff:ffff:ffff:ffff:fffe") {
		f.add(&f.all, a)
	}
	for _, port := range []int{1, 80, 443, 65535} {
		f.addPort(port)
	}
	for family := range f.all { // the order of what is drawn must not depend on how often it was added
		slices.SortFunc(f.all[family], netip.Addr.Compare)
		f.all[family] = slices.Compact(f.all[family])
	}
	slices.Sort(f.ports)
	f.ports = slices.Compact(f.ports)
	return f
}

// add notes an address, unless it is one of no flow.
func (f *Flows) add(list *[2][]netip.Addr, a netip.Addr) {
	if !a.IsValid() || a.Is4In6() || f.use != nil && !f.use(a) {
		return
	}
	family := 0
	if a.Is6() {
		family = 1
	}
	list[family] = append(list[family], a)
}

// addAround notes an address and its neighbours.
func (f *Flows) addAround(a netip.Addr) {
	for _, a := range []netip.Addr{a.Prev(), a, a.Next()} {
		f.add(&f.all, a)
	}
}

// addPort notes a port and its neighbours.
func (f *Flows) addPort(n int) {
	for _, n := range []int{n - 1, n, n + 1} {
		if n > 0 && n < 65536 {
			f.ports = append(f.ports, uint16(n))
		}
	}
}

// addRule notes the edges of a rule. What does not parse has none.
func (f *Flows) addRule(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
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
			f.addAround(p.Masked().Addr())
			f.addAround(nft.LastAddr(p))
		}
	}
	for _, port := range ports {
		if port.Port != nil && port.Port.Type == intstr.Int {
			f.addPort(port.Port.IntValue())
		}
		if port.EndPort != nil {
			f.addPort(int(*port.EndPort))
		}
	}
}

// Next returns a flow. Most have a pod at one end at least; some have the same address at both.
func (f *Flows) Next() nft.Flow {
	family := f.r.IntN(2)
	if len(f.pods[family]) == 0 {
		family = 1 - family
	}
	pods, all := f.pods[family], f.all[family]
	if len(pods) == 0 {
		pods = all
	}
	flow := nft.Flow{Src: pick(f.r, pods...), Dst: pick(f.r, pods...)}
	switch n := f.r.IntN(100); {
	case n < 30:
		flow.Src = pick(f.r, all...)
	case n < 60:
		flow.Dst = pick(f.r, all...)
	case n < 62:
		flow.Dst = flow.Src
	}
	switch n := f.r.IntN(100); {
	case n < 45:
		flow.Proto = nft.TCP
	case n < 65:
		flow.Proto = nft.UDP
	case n < 80:
		flow.Proto = nft.SCTP
	case n < 98:
		flow.Proto, flow.ICMPType = f.icmp(family == 1)
		return flow
	default: // the other family's ICMP, and a protocol without ports
		if flow.Proto = 47; f.r.IntN(2) == 0 {
			flow.Proto, flow.ICMPType = f.icmp(family == 0)
		}
		return flow
	}
	if flow.DstPort = pick(f.r, f.ports...); f.r.IntN(20) == 0 {
		flow.DstPort = uint16(1 + f.r.IntN(65535))
	}
	return flow
}

// icmp returns the protocol and type of an ICMP message of a family.
func (f *Flows) icmp(v6 bool) (proto, icmpType uint8) {
	if v6 {
		return nft.ICMPv6, pick[uint8](f.r, 128, 128, 129, 1, 132, 133, 134, 135, 136, 137, 138)
	}
	return nft.ICMP, pick[uint8](f.r, 8, 8, 0, 3, 13, 135)
}
