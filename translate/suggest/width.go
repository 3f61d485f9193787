// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/policy"
)

// width is how much wider a policy's rules are than what was seen.
type width struct {
	networks External
	pods     uint8 // 0: a workload, 1: its namespace, 2: all namespaces
}

// mostEntries is how many peers and ports a policy may have: kubectl keeps a copy of what it applies in an annotation,
// which the API server limits to 256 KiB, and some peers take 200 bytes.
const mostEntries = 1000

// manyPeers is how many ipBlocks make a rule unreadable.
const manyPeers = 32

// of returns the wider wish that replaces x.
func (w width) of(x wish) wish {
	switch {
	case x.kind == pods && w.pods == 1:
		x.peer = peer{kind: wholes, namespace: x.workload.Namespace}
	case x.kind == pods && w.pods == 2:
		x.peer = peer{kind: wholes}
	case x.kind == nodes, x.kind == outside:
		x.block = w.networks.block(x.block.Addr())
	}
	return x
}

// wider returns the next width if these counts of peers are too many, and false if there is none.
func (w width) wider(count map[kind]int) (width, bool) {
	networks, workloads := count[nodes]+count[outside], count[pods]+count[wholes]
	switch {
	case w.networks < Any && (networks >= workloads || w.pods == 2):
		w.networks++
	case w.pods < 2:
		w.pods++
	default:
		return w, false
	}
	return w, true
}

// written is a finished policy, and where in its rules peers are.
type written struct {
	*Policy
	width
	at map[wish][2]int // the rule, and the peer in it
}

// write makes the rules of a policy, as narrow as the API server's limit allows.
func (s *suggester) write(p *Policy, needs map[wish]*need) written {
	w := written{p, width{networks: s.External}, make(map[wish][2]int)}
	var rules []rule
	for more := true; more; {
		byPeer, count := w.gather(needs), make(map[kind]int)
		for p := range byPeer {
			count[p.kind]++
		}
		entries := len(byPeer)
		if entries <= mostEntries {
			rules, entries = s.rules(p.Direction, byPeer), 0
			for _, r := range rules {
				entries += len(r.written) + len(r.ports)
			}
		}
		if entries <= mostEntries {
			break
		}
		w.width, more = w.wider(count)
	}
	if w.width != (width{networks: s.External}) {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %s from or to more peers was seen than a policy can have, so it "+
			"allows %s", p.Workload, p.Direction, w.width))
	}
	for i, r := range rules {
		at := make(map[peer]int)
		for j, peer := range r.peers {
			at[peer] = min(j, len(r.written)-1)
		}
		for _, n := range r.needs {
			w.at[n.wish] = [2]int{i, at[n.peer]}
		}
		if len(r.written) > manyPeers {
			s.Notes = append(s.Notes, fmt.Sprintf("%s: an %s rule has %d networks: --external=24 or --external=any "+
				"makes it shorter", p.Workload, p.Direction, len(r.written)))
		}
		if len(r.ports) == 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%s: an %s rule allows every port, as what was seen has none "+
				"(ICMP), and no rule can name it", p.Workload, p.Direction))
		}
		p.add(r)
	}
	return w
}

// gather groups needs by peer.
func (w width) gather(needs map[wish]*need) map[peer][]*need {
	wide := make(map[wish]*need)
	byPeer := make(map[peer][]*need)
	for x, n := range needs {
		x = w.of(x)
		if wide[x] == nil {
			wide[x] = &need{wish: x}
			byPeer[x.peer] = append(byPeer[x.peer], wide[x])
		}
		wide[x].add(*n)
	}
	return byPeer
}

// String describes the width.
func (w width) String() string {
	var all []string
	if w.networks > Exact {
		all = append(all, [...]string{"", "networks of /24, of IPv6 of /64", "all addresses outside"}[w.networks])
	}
	if w.pods > 0 {
		all = append(all, [...]string{"", "whole namespaces", "all pods"}[w.pods])
	}
	return strings.Join(all, " and ")
}

// add adds a rule to a policy.
func (p *Policy) add(r rule) {
	p.Rules = append(p.Rules, r.comment)
	if p.Direction == policy.Ingress {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: r.written, Ports: r.ports})
	} else {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: r.written, Ports: r.ports})
	}
}

// part returns the part of a policy for a wish: one peer and one port of a rule; nil if there is none.
func (w written) part(x wish) *networkingv1.NetworkPolicy {
	x = w.of(x)
	at, has := w.at[x]
	if !has {
		return nil
	}
	part := *w.NetworkPolicy
	part.Spec.Ingress, part.Spec.Egress = nil, nil
	if w.Direction == policy.Ingress {
		r := w.Spec.Ingress[at[0]]
		part.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{
			{From: r.From[at[1] : at[1]+1], Ports: portOf(r.Ports, x.service)}}
	} else {
		r := w.Spec.Egress[at[0]]
		part.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{
			{To: r.To[at[1] : at[1]+1], Ports: portOf(r.Ports, x.service)}}
	}
	return &part
}

// portOf returns the port of a rule that a service needs; all of them if there is none.
func portOf(ports []networkingv1.NetworkPolicyPort, s service) []networkingv1.NetworkPolicyPort {
	for i, p := range ports {
		last := p.Port.IntVal
		if p.EndPort != nil {
			last = *p.EndPort
		}
		if policy.ProtocolOf(p) == s.proto && p.Port.IntVal <= int32(s.port) && int32(s.port) <= last {
			return ports[i : i+1]
		}
	}
	return ports
}

// reserved are private networks.
func reserved() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
		"fc00::/7", "fe80::/10"} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// block returns the network for an address.
func (e External) block(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	switch {
	case e == Any:
		bits = 0
		for _, n := range reserved() {
			if n.Contains(a) {
				return n
			}
		}
	case e == Subnet && a.Is4():
		bits = 24
	case e == Subnet:
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// ipBlock writes a network; all addresses become those of the internet.
func ipBlock(n netip.Prefix) *networkingv1.IPBlock {
	b := &networkingv1.IPBlock{CIDR: n.String()}
	for _, r := range reserved() {
		if n.Bits() == 0 && r.Addr().Is4() == n.Addr().Is4() {
			b.Except = append(b.Except, r.String())
		}
	}
	return b
}
