// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
)

// ParseFlows returns the flows that two arguments of `netpold explain` name: one for each family that both ends have. An end is
// "namespace/pod" or an address; the destination goes on with ":PORT", ":PORT/PROTO" or ":icmp", and an IPv6 address there stands in
// brackets. The protocol is tcp (the default), udp or sctp.
func (c *Cluster) ParseFlows(src, dst string) ([]nft.Flow, error) {
	flows, err := parseFlows(src, dst, func(name string) ([]netip.Addr, bool) {
		for _, p := range c.Pods {
			if p.String() == name {
				return p.IPs, true
			}
		}
		return nil, false
	})
	for i, f := range flows {
		if from := c.podAt(f.Src); from != nil && c.nodeHas(from.Node, f.Dst) {
			flows[i].Hook = nft.Input
		}
	}
	return flows, err
}

// nodeHas says whether a pod of the host network tells that an address is a node's.
func (c *Cluster) nodeHas(node string, a netip.Addr) bool {
	return slices.ContainsFunc(c.Pods, func(p Pod) bool { return p.HostNetwork && p.Node == node && p.claims(a) })
}

// ParseFlows is as [Cluster.ParseFlows]; own are the addresses of the state's node.
func (s *State) ParseFlows(src, dst string, own []netip.Addr) ([]nft.Flow, error) {
	flows, err := parseFlows(src, dst, func(name string) ([]netip.Addr, bool) {
		namespace, pod, _ := strings.Cut(name, "/")
		return s.ipsOf(types.NamespacedName{Namespace: namespace, Name: pod})
	})
	for i, f := range flows {
		from := s.owners[f.Src]
		if from == nil {
			continue
		}
		host := slices.ContainsFunc(s.hosts[f.Dst], func(p *pod) bool { return p.node == from.node })
		if host || from.node == s.node && slices.Contains(own, f.Dst) {
			flows[i].Hook = nft.Input
		}
	}
	return flows, err
}

// ipsOf returns the addresses of the pod of that name, if there is one.
func (s *State) ipsOf(name types.NamespacedName) ([]netip.Addr, bool) {
	p := s.pod(name)
	for _, b := range s.sandboxesOf[name] {
		if p == nil || p.hushed {
			return b.IPs, true
		}
	}
	if p == nil {
		return nil, false
	}
	return p.ips, true
}

// parseFlows parses flows; podIPs returns the addresses of the pod of a name, if there is one.
func parseFlows(src, dst string, podIPs func(name string) ([]netip.Addr, bool)) ([]nft.Flow, error) {
	host, port, err := splitDestination(dst)
	if err != nil {
		return nil, err
	}
	sources, err := addresses(src, podIPs)
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", src, err)
	}
	destinations, err := addresses(host, podIPs)
	if err != nil {
		return nil, fmt.Errorf("destination %q: %w", dst, err)
	}
	var flows []nft.Flow
	for _, s := range sources {
		for _, d := range destinations {
			if nft.FamilyOf(s) != nft.FamilyOf(d) {
				continue
			}
			f := port
			f.Src, f.Dst = s, d
			if f.Proto == nft.ICMP {
				f.Proto, f.ICMPType = echoRequest(nft.FamilyOf(d))
			}
			flows = append(flows, f)
		}
	}
	if len(flows) == 0 {
		return nil, fmt.Errorf("%s and %s have no IP family in common", src, host)
	}
	return flows, nil
}

// echoRequest is the protocol and type of a ping.
func echoRequest(f nft.Family) (proto, icmpType uint8) {
	if f == nft.IPv6 {
		return nft.ICMPv6, 128
	}
	return nft.ICMP, 8
}

// splitDestination splits "host:80/tcp"; the flow has the protocol and port.
func splitDestination(dst string) (host string, f nft.Flow, err error) {
	i := strings.LastIndexByte(dst, ':')
	if i < 0 || strings.HasSuffix(dst, "]") {
		return "", f, fmt.Errorf("destination %q: no port: want HOST:PORT, HOST:PORT/PROTO or HOST:icmp", dst)
	}
	host, service := dst[:i], dst[i+1:]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "", f, fmt.Errorf("destination %q: an IPv6 address stands in brackets before the port, as [2001:db8::1]:80", dst)
	}
	if strings.EqualFold(service, "icmp") {
		f.Proto = nft.ICMP
		return host, f, nil
	}
	number, proto, named := strings.Cut(service, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return "", f, fmt.Errorf("destination %q: port %q is not a number from 1 to 65535", dst, number)
	}
	f.DstPort, f.Proto = uint16(port), nft.TCP
	if named {
		known := map[string]uint8{"tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP}
		if f.Proto = known[strings.ToLower(proto)]; f.Proto == 0 {
			return "", f, fmt.Errorf("destination %q: protocol %q is not tcp, udp or sctp", dst, proto)
		}
	}
	return host, f, nil
}

// addresses returns the addresses of "namespace/pod", or the one that text is. Who asks about ::ffff:10.0.0.1 has it from a
// socket of both families, which calls an IPv4 peer so.
func addresses(text string, podIPs func(name string) ([]netip.Addr, bool)) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if !strings.Contains(text, "/") {
		return nil, fmt.Errorf("neither an address nor namespace/pod")
	}
	ips, found := podIPs(text)
	switch {
	case !found:
		return nil, fmt.Errorf("no pod %s", text)
	case len(ips) == 0:
		return nil, fmt.Errorf("pod %s has no address yet", text)
	}
	return ips, nil
}

// NodeTrace is how the table of one node treats a flow.
type NodeTrace struct {
	Node    string
	Steps   []nft.Step
	Verdict nft.Verdict
}

// Trace follows the flow through the tables of the nodes of its pods, the source's first.
func (c *Cluster) Trace(f nft.Flow, options Options) ([]NodeTrace, error) {
	var traces []NodeTrace
	seen := make(map[string]bool)
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		for _, node := range c.nodesOf(a) {
			if seen[node] {
				continue
			}
			seen[node] = true
			s := New(node, options)
			c.AddTo(s) // its errors are the caller's to have seen
			steps, v, err := s.Table().Trace(f)
			if err != nil {
				return nil, fmt.Errorf("trace on node %s: %w", node, err)
			}
			traces = append(traces, NodeTrace{node, steps, v})
		}
	}
	return traces, nil
}

// nodesOf returns the nodes of the pods that claim an address.
func (c *Cluster) nodesOf(a netip.Addr) []string {
	var nodes []string
	for _, p := range c.Pods {
		for _, ip := range p.IPs {
			if ip == a && !p.HostNetwork {
				nodes = append(nodes, p.Node)
			}
		}
	}
	return nodes
}
