// SPDX-License-Identifier: Apache-2.0

package random

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// podsIPv4 are addresses at, next to and between the edges of the blocks in policies. Neighbours matter: they reveal an
// interval that is one address too long or too short.
func podsIPv4() []netip.Addr {
	pool := addrs("10.0.0.1", "10.0.0.2", "10.0.0.127", "10.0.0.128", "10.0.0.254", "10.0.0.255",
		"10.0.1.0", "10.0.1.1",
		"10.0.255.255", "10.1.0.0", "10.255.255.255", "11.0.0.0", "127.255.255.254", "128.0.0.0",
		"192.168.0.1", "0.0.0.1",
		"255.255.255.254", "223.255.255.255", "0.0.0.0", "255.255.255.255")
	for i := range 200 {
		pool = append(pool, netip.AddrFrom4([4]byte{10, 0, 2, byte(i)}))
	}
	return pool
}

// podsIPv6 are such addresses of IPv6.
func podsIPv6() []netip.Addr {
	pool := addrs("fd00::1", "fd00::2", "fd00::7f", "fd00::80", "fd00::fe", "fd00::ff", "fd00::100",
		"fd00::ffff", "fd00::1:0",
		"fd00:0:0:1::", "fd00::ffff:ffff:ffff:ffff", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::",
		"2001:db8::1", "::a00:1",
		"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b::a00:1", "64:ff9b::", "64:ff9b::ffff:ffff",
		"64:ff9b::1:0:0",
		"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::fffd:ffff:ffff", "::fffe:0:0", "::fffe:ffff:ffff",
		"::1:0:0:0", "::1:0:0")
	for i := range 200 {
		pool = append(pool, netip.AddrFrom16([16]byte{0: 0xfd, 13: 2, 15: byte(i)}))
	}
	return pool
}

func addrs(texts ...string) []netip.Addr {
	all := make([]netip.Addr, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParseAddr(text)
	}
	return all
}

// pod returns a pod with the i-th name of the universe; i determines both its namespace and its name.
func (g *Generator) pod(i int) policy.Pod {
	p := policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: namespaceName(i % g.size.Namespaces),
			Name: objectName("pod", i)},
		Node:        pick(g.r, Nodes()[0], Nodes()[0], Nodes()[1]),
		Labels:      g.podLabels(),
		Ports:       g.namedPorts(),
		Running:     g.chance(85),
		Terminating: g.chance(15),
		Created:     time.Unix(1_700_000_000+int64(g.r.IntN(3)), 0).UTC(),
	}
	if g.chance(6) {
		p.HostNetwork, p.IPs = true, addrs(pick(g.r, "192.168.0.1", "10.0.0.1"), "fd00::1")
		return p
	}
	families := pick(g.r, []int{0}, []int{0}, []int{1}, []int{0, 1}, []int{0, 1}, []int{1, 0}, nil)
	for _, f := range families {
		p.IPs = append(p.IPs, pick(g.r, g.pods[f]...))
	}
	return p
}

// podLabels returns labels of a pod, with few values, so that pods share identities.
func (g *Generator) podLabels() map[string]string {
	labels := make(map[string]string)
	if g.chance(80) {
		labels["app"] = pick(g.r, "web", "db", "cache")
	}
	if g.chance(30) {
		labels["tier"] = pick(g.r, "front", "back", "")
	}
	return labels
}

// namedPorts returns the named ports of a pod, in the order of policy.PodFrom. Most pods have http, with different
// numbers; some have one name for two protocols, or twice for one.
func (g *Generator) namedPorts() []policy.NamedPort {
	var ports []policy.NamedPort
	for range g.few(4) {
		ports = append(ports, policy.NamedPort{
			Name:   pick(g.r, "http", "http", "dns", "admin"),
			Proto:  pick(g.r, nft.TCP, nft.TCP, nft.TCP, nft.UDP, nft.SCTP),
			Number: pick[uint16](g.r, 80, 8080, 8081, 53, 65535, 1),
		})
	}
	slices.SortFunc(ports, func(a, b policy.NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Number, b.Number))
	})
	return slices.Compact(ports)
}
