// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/policy"
)

// wish is what a policy must allow.
type wish struct {
	peer
	service
}

// peer is who a rule is about.
type peer struct {
	kind     kind
	workload *workload
	block    netip.Prefix // without a workload
}

// kind is what a peer is, in the order in which rules are written.
type kind uint8

const (
	dns kind = iota
	pods
	nodes
	outside
)

// service is the protocol and port that a rule allows; without a protocol it allows everything, as no rule can say
// ICMP.
type service struct {
	proto uint8
	port  uint16
}

// need is how much a wish was seen.
type need struct {
	wish
	name      string // of the service
	count     uint64
	last      time.Time
	addresses map[netip.Addr]bool
}

// note adds what a direction of a connection needs.
func (s *suggester) note(o observed, d policy.Direction) {
	own, other := o.of(d)
	if !own.in(s.Namespace) {
		return
	}
	number, _ := o.Number()
	w := wish{service: service{number, o.Port}}
	if o.Port == 0 {
		w.service = service{}
	}
	switch {
	case other.workload == nil:
		w.peer = peer{kind: outside, block: s.External.block(other.address)}
		if other.host {
			w.kind = nodes
		}
	case d == policy.Egress && isDNS(other.pod, w.service):
		w.peer = peer{kind: dns}
	default:
		w.peer = peer{kind: pods, workload: other.workload}
	}
	key := subject{own.workload, d}
	if s.isMet(o, key, w) {
		return
	}
	if s.needs[key] == nil {
		s.needs[key] = make(map[wish]*need)
	}
	n := s.needs[key][w]
	if n == nil {
		n = &need{wish: w, name: o.Service(), addresses: make(map[netip.Addr]bool)}
		s.needs[key][w] = n
	}
	n.count += o.Count
	n.addresses[other.address] = true
	if o.Last.After(n.last) {
		n.last = o.Last
	}
	if !strings.Contains(n.name, o.Service()) {
		n.name += " and " + o.Service()
	}
}

// isMet says whether policies of the cluster meet a wish: for all pods by the first connection that has it, and for
// each connection.
func (s *suggester) isMet(o observed, key subject, w wish) bool {
	if !s.isolated(key.workload, key.direction) {
		return false
	}
	if s.met[key] == nil {
		s.met[key] = make(map[wish]bool)
	}
	met, known := s.met[key][w]
	if !known {
		met = s.covered(o, key.direction)
		s.met[key][w] = met
	}
	own, peer := o.of(key.direction)
	return met && s.allowed(o, key.direction, own, peer)
}

// block returns the network that stands for an address.
func (e External) block(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	switch {
	case e == Any:
		bits = 0
	case e == Subnet && a.Is4():
		bits = 24
	case e == Subnet:
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// Labels by which every cluster's DNS is found.
const (
	dnsNamespace = "kube-system"
	dnsLabel     = "k8s-app"
	dnsName      = "kube-dns"
)

// isDNS says whether a service of a pod is the cluster's DNS.
func isDNS(p *policy.Pod, s service) bool {
	named := slices.ContainsFunc(p.Ports, func(have policy.NamedPort) bool {
		return strings.HasPrefix(have.Name, "dns") && have.Number == s.port
	})
	return p.Namespace == dnsNamespace && p.Labels[dnsLabel] == dnsName && (s.port == 53 || named) &&
		(s.proto == policy.TCP || s.proto == policy.UDP)
}

// rule is a rule of a policy in the making.
type rule struct {
	comment []string
	peers   []networkingv1.NetworkPolicyPeer
	ports   []networkingv1.NetworkPolicyPort
}

// rules returns the rules for needs: one for each peer. Networks that have the same ports share one, and so do
// workloads that have the same selector.
func (s *suggester) rules(d policy.Direction, needs map[wish]*need) []rule {
	byPeer := make(map[peer][]*need)
	for w, n := range needs {
		byPeer[w.peer] = append(byPeer[w.peer], n)
	}
	type group struct {
		peers []peer
		needs []*need
	}
	groups := make(map[string]*group)
	for p, of := range byPeer {
		slices.SortFunc(of, func(a, b *need) int {
			return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
		})
		key := ""
		if p.workload != nil {
			key = p.workload.Namespace + " " + metav1.FormatLabelSelector(&s.selector(p.workload).LabelSelector)
		} else {
			var ports []service
			for _, n := range of {
				ports = append(ports, n.service)
			}
			key = fmt.Sprint(p.kind, p.block.Addr().Is4(), ports)
		}
		if groups[key] == nil {
			groups[key] = &group{}
		}
		groups[key].peers = append(groups[key].peers, p)
		groups[key].needs = append(groups[key].needs, of...)
	}
	for _, g := range groups {
		slices.SortFunc(g.peers, comparePeers)
	}
	var all []rule
	for _, g := range slices.SortedFunc(maps.Values(groups), func(a, b *group) int {
		return comparePeers(a.peers[0], b.peers[0])
	}) {
		r := rule{comment: comment(d, g.peers, g.needs), ports: ports(g.needs)}
		for _, p := range g.peers {
			if len(r.peers) == 0 || p.workload == nil { // workloads of one group have one selector
				r.peers = append(r.peers, s.peer(p))
			}
		}
		all = append(all, r)
	}
	return all
}

func comparePeers(a, b peer) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name(), b.name()),
		a.block.Addr().Compare(b.block.Addr()), cmp.Compare(a.block.Bits(), b.block.Bits()))
}

func (p peer) name() string {
	if p.workload == nil {
		return ""
	}
	return p.workload.String() + " " + p.workload.Kind
}

// peer writes a peer of a rule.
func (s *suggester) peer(p peer) networkingv1.NetworkPolicyPeer {
	in := func(namespace string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
	}
	switch {
	case p.kind == dns:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: in(dnsNamespace),
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{dnsLabel: dnsName}}}
	case p.workload == nil:
		return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: p.block.String()}}
	}
	written := networkingv1.NetworkPolicyPeer{PodSelector: &s.selector(p.workload).LabelSelector}
	if p.workload.Namespace != s.Namespace {
		written.NamespaceSelector = in(p.workload.Namespace)
	}
	return written
}

// ports writes the ports of a rule; none where one of the needs is for all. DNS is on UDP and, for long answers, TCP.
func ports(needs []*need) []networkingv1.NetworkPolicyPort {
	var services []service
	for _, n := range needs {
		if n.proto == 0 {
			return nil
		}
		services = append(services, n.service)
		if n.kind == dns {
			services = append(services, service{policy.UDP, n.port}, service{policy.TCP, n.port})
		}
	}
	slices.SortFunc(services, func(a, b service) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	})
	names := map[uint8]corev1.Protocol{
		policy.TCP: corev1.ProtocolTCP, policy.UDP: corev1.ProtocolUDP, policy.SCTP: corev1.ProtocolSCTP}
	var all []networkingv1.NetworkPolicyPort
	for _, s := range slices.Compact(services) {
		protocol, port := names[s.proto], intstr.FromInt32(int32(s.port))
		all = append(all, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port})
	}
	return all
}

// comment says who a rule is for, and what was seen of it: a line for each port.
func comment(d policy.Direction, peers []peer, needs []*need) []string {
	all := make(map[service]*need)
	for _, n := range needs {
		if all[n.service] == nil {
			all[n.service] = &need{name: n.name, addresses: make(map[netip.Addr]bool)}
		}
		all[n.service].count += n.count
		if n.last.After(all[n.service].last) {
			all[n.service].last = n.last
		}
		maps.Copy(all[n.service].addresses, n.addresses)
	}
	lines := []string{}
	for _, s := range slices.SortedFunc(maps.Keys(all), func(a, b service) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	}) {
		of := all[s]
		name := of.name
		if s.proto == 0 {
			name += " (which no rule can name: this one allows every port)"
		}
		lines = append(lines, fmt.Sprintf("%s: %s, %s, last seen %s", peersText(d, peers, of), name,
			plural(of.count, "connection", "s"), stamp(of.last)))
	}
	return lines
}

// peersText says who the peers of a rule are, of networks how many addresses were seen.
func peersText(d policy.Direction, peers []peer, seen *need) string {
	word := map[policy.Direction]string{policy.Egress: "to ", policy.Ingress: "from "}[d]
	switch n := uint64(len(seen.addresses)); peers[0].kind {
	case dns:
		return "DNS"
	case nodes:
		return word + plural(n, "node address", "es")
	case outside:
		return word + plural(n, "outside address", "es")
	}
	var names []string
	for _, p := range peers {
		names = append(names, p.workload.String())
	}
	return word + strings.Join(names, ", ")
}

// stamp writes a time to the minute.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// plural writes a number of things.
func plural(n uint64, one, ending string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", one, ending)
}
