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

	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
)

// wish is what a policy must allow.
type wish struct {
	peer
	service
}

// peer is the peer of a rule.
type peer struct {
	kind      kind
	workload  *workload    // of pods
	namespace string       // of wholes; "" is all namespaces
	block     netip.Prefix // of nodes and outside
}

// kind is the kind of a peer, in the order in which rules are written.
type kind uint8

const (
	dns    kind = iota // for egress, the cluster's DNS; for its ingress, all pods
	pods               // a workload
	wholes             // all pods of a namespace, or of all
	nodes
	outside
)

// service is the protocol and port that a rule allows; without a protocol, everything, as no rule can name ICMP.
type service struct {
	proto uint8
	port  uint16
}

// need is how often a wish was seen.
type need struct {
	wish
	name      string // of the service
	count     uint64
	last      time.Time
	addresses map[netip.Addr]bool // of peers that a comment counts by address; nil for pods
}

// wish returns what a policy must allow for a direction of a connection.
func (s *suggester) wish(o observed, d policy.Direction) wish {
	_, other := o.of(d)
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
	case isDNS(o.to.pod, w.service): // which every pod asks, those to come, too
		w.peer = peer{kind: dns}
	default:
		w.peer = peer{kind: pods, workload: other.workload}
	}
	return w
}

// note adds what a direction of a connection needs.
func (s *suggester) note(o observed, d policy.Direction) {
	own, other := o.of(d)
	if !own.in(s.Namespace) {
		return
	}
	w, key := s.wish(o, d), subject{own.workload, d}
	if s.isMet(o, key, w) {
		return
	}
	if s.needs[key] == nil {
		s.needs[key] = make(map[wish]*need)
	}
	n := s.needs[key][w]
	if n == nil {
		n = &need{wish: w}
		if w.kind != pods {
			n.addresses = make(map[netip.Addr]bool)
		}
		s.needs[key][w] = n
	}
	if n.addresses != nil {
		n.addresses[other.address] = true
	}
	n.add(need{name: o.Service(), count: o.Count, last: o.Last})
}

// joint joins names of services.
const joint = " and "

// add adds another need's counts.
func (n *need) add(other need) {
	n.count += other.count
	if other.last.After(n.last) {
		n.last = other.last
	}
	switch n.name {
	case other.name:
	case "":
		n.name = other.name
	default:
		names := append(strings.Split(n.name, joint), strings.Split(other.name, joint)...)
		slices.Sort(names)
		n.name = strings.Join(slices.Compact(names), joint)
	}
	if n.addresses == nil {
		n.addresses = maps.Clone(other.addresses)
	} else {
		maps.Copy(n.addresses, other.addresses)
	}
}

// isMet says whether the cluster's policies meet a wish: for all pods, by its first connection, and for each
// connection.
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
	return met && s.now.about(o.Question(), o.from, o.to)[key.direction].met
}

// The label of every cluster's DNS.
const (
	dnsNamespace = "kube-system"
	dnsLabel     = "k8s-app"
	dnsName      = "kube-dns"
)

// isDNS says whether a service of a pod is the cluster's DNS.
func isDNS(p *policy.Pod, s service) bool {
	if p == nil {
		return false
	}
	named := slices.ContainsFunc(p.Ports, func(have policy.NamedPort) bool {
		return strings.HasPrefix(have.Name, "dns") && have.Number == s.port
	})
	return p.Namespace == dnsNamespace && p.Labels[dnsLabel] == dnsName && (s.port == 53 || named) &&
		(s.proto == policy.TCP || s.proto == policy.UDP)
}

// rule is a rule under construction.
type rule struct {
	*group
	comment []string
	written []networkingv1.NetworkPolicyPeer
	ports   []networkingv1.NetworkPolicyPort
}

// group is what becomes a rule.
type group struct {
	peers []peer
	needs []*need
}

// rules returns the rules for needs: one for each peer, but shared by workloads with the same selector, and by
// networks.
func (s *suggester) rules(d policy.Direction, byPeer map[peer][]*need) []rule {
	groups := make(map[string]*group)
	networks := make(map[string][]*need) // by kind and family
	for p, of := range byPeer {
		key := fmt.Sprint(p.kind, p.namespace)
		switch p.kind {
		case nodes, outside:
			key += fmt.Sprint(p.block.Addr().Is4())
			networks[key] = append(networks[key], of...)
			continue
		case pods:
			key += p.workload.Namespace + " " + metav1.FormatLabelSelector(&s.selector(p.workload).LabelSelector)
		}
		if groups[key] == nil {
			groups[key] = &group{}
		}
		groups[key].peers = append(groups[key].peers, p)
		groups[key].needs = append(groups[key].needs, of...)
	}
	written := slices.Collect(maps.Values(groups))
	for _, needs := range networks {
		written = append(written, networkGroups(needs)...)
	}
	for _, g := range written {
		slices.SortFunc(g.peers, comparePeers)
		slices.SortFunc(g.needs, compareNeeds)
	}
	slices.SortFunc(written, func(a, b *group) int {
		return cmp.Or(comparePeers(a.peers[0], b.peers[0]), compareServices(a.needs[0].service, b.needs[0].service))
	})
	all := make([]rule, 0, len(written))
	for _, g := range written {
		spans := spansOf(g.needs)
		r := rule{group: g, comment: comment(d, g, spans), ports: ports(spans)}
		for _, p := range g.peers {
			if len(r.written) == 0 || p.kind != pods { // workloads of one group have one selector
				r.written = append(r.written, s.peer(d, p))
			}
		}
		all = append(all, r)
	}
	return all
}

// networkGroups returns the rules for networks: either networks with the same ports share one, or ports with the same
// networks, whichever makes fewer.
func networkGroups(needs []*need) []*group {
	slices.SortFunc(needs, compareNeeds)
	byNetworks := shared(needs, func(n *need) (service, any) { return n.service, n.block })
	if byPorts := shared(needs, func(n *need) (netip.Prefix, any) { return n.block, n.service }); len(byPorts) <
		len(byNetworks) {
		return byPorts
	}
	return byNetworks
}

// shared groups needs: those of the same kind, and kinds with the same values, share a group.
func shared[K comparable](needs []*need, kind func(*need) (K, any)) []*group {
	values := make(map[K]*strings.Builder)
	for _, n := range needs {
		k, value := kind(n)
		if values[k] == nil {
			values[k] = &strings.Builder{}
		}
		fmt.Fprint(values[k], value, " ")
	}
	at := make(map[string]*group)
	var all []*group
	for _, n := range needs {
		k, _ := kind(n)
		g := at[values[k].String()]
		if g == nil {
			g = &group{}
			at[values[k].String()], all = g, append(all, g)
		}
		g.needs = append(g.needs, n)
		if len(g.peers) == 0 || g.peers[len(g.peers)-1] != n.peer { // they are sorted
			g.peers = append(g.peers, n.peer)
		}
	}
	return all
}

func compareNeeds(a, b *need) int {
	return cmp.Or(comparePeers(a.peer, b.peer), compareServices(a.service, b.service))
}

func compareServices(a, b service) int {
	return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
}

func comparePeers(a, b peer) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name(), b.name()),
		a.block.Addr().Compare(b.block.Addr()), cmp.Compare(a.block.Bits(), b.block.Bits()))
}

func (p peer) name() string {
	if p.workload == nil {
		return p.namespace
	}
	if p.workload.text == "" {
		p.workload.text = p.workload.String() + " " + p.workload.Kind
	}
	return p.workload.text
}

// peer writes a peer of a rule.
func (s *suggester) peer(d policy.Direction, p peer) networkingv1.NetworkPolicyPeer {
	in := func(namespace string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
	}
	switch {
	case p.kind == wholes && p.namespace == "", p.kind == dns && d == policy.Ingress:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}}
	case p.kind == dns:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: in(dnsNamespace),
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{dnsLabel: dnsName}}}
	case p.kind == wholes && p.namespace == s.Namespace:
		return networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	case p.kind == wholes:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: in(p.namespace)}
	case p.workload == nil:
		return networkingv1.NetworkPolicyPeer{IPBlock: ipBlock(p.block)}
	}
	written := networkingv1.NetworkPolicyPeer{PodSelector: &s.selector(p.workload).LabelSelector}
	if p.workload.Namespace != s.Namespace {
		written.NamespaceSelector = in(p.workload.Namespace)
	}
	return written
}

// span is a range of ports of one protocol; without a protocol, everything.
type span struct {
	proto       uint8
	first, last uint16
}

func (p span) has(s service) bool { return p.proto == s.proto && p.first <= s.port && s.port <= p.last }

// manyPorts is the most readable number of ports in a rule. With more, the nearest ones are joined into ranges.
const manyPorts = 32

// spansOf returns the ports of a rule, sorted. DNS is on UDP and, for long answers, TCP.
func spansOf(needs []*need) []span {
	var all []span
	for _, n := range needs {
		all = append(all, span{n.proto, n.port, n.port})
		if n.kind == dns {
			all = append(all, span{policy.UDP, n.port, n.port}, span{policy.TCP, n.port, n.port})
		}
	}
	slices.SortFunc(all, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.first, b.first))
	})
	all = slices.Compact(all)
	if excess := len(all) - manyPorts; excess > 0 {
		all = join(all, excess)
	}
	slices.SortFunc(all, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.proto, b.proto))
	})
	return all
}

// join closes n gaps between sorted spans, the smallest first.
func join(all []span, n int) []span {
	var gaps []int // before the one at each index
	for i := range all[1:] {
		if all[i].proto == all[i+1].proto {
			gaps = append(gaps, i+1)
		}
	}
	slices.SortStableFunc(gaps, func(a, b int) int {
		return cmp.Compare(all[a].first-all[a-1].last, all[b].first-all[b-1].last)
	})
	closed := make(map[int]bool)
	for _, at := range gaps[:n] {
		closed[at] = true
	}
	var spans []span
	for i, p := range all {
		if closed[i] {
			spans[len(spans)-1].last = p.last
		} else {
			spans = append(spans, p)
		}
	}
	return spans
}

// ports writes the ports of a rule; none if one of the needs is for all.
func ports(spans []span) []networkingv1.NetworkPolicyPort {
	names := map[uint8]corev1.Protocol{
		policy.TCP: corev1.ProtocolTCP, policy.UDP: corev1.ProtocolUDP, policy.SCTP: corev1.ProtocolSCTP}
	var all []networkingv1.NetworkPolicyPort
	for _, s := range spans {
		if s.proto == 0 {
			return nil
		}
		protocol, port, last := names[s.proto], intstr.FromInt32(int32(s.first)), int32(s.last)
		written := networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port}
		if s.last > s.first {
			written.EndPort = &last
		}
		all = append(all, written)
	}
	return all
}

// comment says who a rule is for, and what was seen: a line for each port or range.
func comment(d policy.Direction, g *group, spans []span) []string {
	lines := []string{}
	needs := make([]*need, len(spans))
	for _, n := range g.needs {
		i := slices.IndexFunc(spans, func(p span) bool { return p.has(n.service) })
		if needs[i] == nil {
			needs[i] = &need{}
		}
		if spans[i].first < spans[i].last {
			other := *n
			other.name = fmt.Sprintf("%s-%d", flows.Flow{Protocol: flows.ProtocolName(n.proto), Port: spans[i].first}.
				Service(), spans[i].last)
			n = &other
		}
		needs[i].add(*n)
	}
	for i, of := range needs {
		if of == nil { // DNS of which one protocol was seen
			continue
		}
		name := of.name
		if spans[i].proto == 0 {
			name += " (which no rule can name: this one allows every port)"
		}
		lines = append(lines, fmt.Sprintf("%s: %s, %s, last seen %s", peersText(d, g.peers, of), name,
			plural(of.count, "connection", "s"), stamp(of.last)))
	}
	return lines
}

// peersText names the peers of a rule; for networks, how many addresses were seen.
func peersText(d policy.Direction, peers []peer, seen *need) string {
	word := map[policy.Direction]string{policy.Egress: "to ", policy.Ingress: "from "}[d]
	switch n := uint64(len(seen.addresses)); peers[0].kind {
	case dns:
		if d == policy.Ingress {
			return "DNS of all pods, from " + plural(n, "address", "es")
		}
		return "DNS"
	case nodes:
		return word + plural(n, "node address", "es")
	case outside:
		return word + plural(n, "outside address", "es")
	}
	var names []string
	for _, p := range peers {
		switch {
		case p.workload != nil:
			names = append(names, p.workload.names()...)
		case p.namespace != "":
			names = append(names, "all pods of "+p.namespace)
		default:
			names = append(names, "all pods")
		}
	}
	return word + few(names)
}

// stamp writes a time to the minute.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// plural writes a number with its noun.
func plural(n uint64, one, ending string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", one, ending)
}
