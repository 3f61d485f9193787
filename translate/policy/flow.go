// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Flow is the first packet of a new connection: its original source, and its destination after translation.
type Flow struct {
	ToNode   bool       // the destination is the source pod's own node
	ToOwnPod bool       // the source is the destination pod's own node
	Service  bool       // the destination was translated; matters only if a pod has both ends
	Src, Dst netip.Addr // of one family; an IPv4-mapped address is IPv6
	Proto    uint8      // IANA protocol number
	DstPort  uint16     // of protocols that have ports
	ICMPType uint8      // of ICMP and ICMPv6

	// Only for a node's guard.
	FromNode bool   // the source is an address of the node itself
	In, Out  string // input and output links; "" if not known, or none
}

// String returns the flow as "10.0.0.1 -> 10.0.0.2 tcp/80".
func (f Flow) String() string {
	return fmt.Sprintf("%s -> %s %s/%d", f.Src, f.Dst, strings.ToLower(protocolName(f.Proto)), f.DstPort)
}

// ParseFlows returns the flows that two arguments of `netpold explain` name: one for each family that both ends have.
// An end is "namespace/pod" or an address; the destination has a suffix ":PORT", ":PORT/PROTO" or ":icmp", and an IPv6
// address there is in brackets. The protocol is tcp (the default), udp or sctp.
func (c *Cluster) ParseFlows(src, dst string) ([]Flow, error) {
	flows, err := ParseFlows(src, dst, PodBook{IPs: c.ipsOf, Names: func(yield func(string) bool) {
		for _, p := range c.Pods {
			if !yield(p.String()) {
				return
			}
		}
	}})
	for i, f := range flows {
		from, to := c.Owner(f.Src), c.Owner(f.Dst)
		flows[i].ToNode = from != nil && c.nodeHas(from.Node, f.Dst)
		flows[i].ToOwnPod = from == nil && to != nil && to.Node != "" && c.nodeHas(to.Node, f.Src)
	}
	return flows, err
}

// ipsOf returns the addresses of the pod of that name, if there is one.
func (c *Cluster) ipsOf(name string) ([]netip.Addr, bool) {
	for _, p := range c.Pods {
		if p.String() == name {
			return p.IPs, true
		}
	}
	return nil, false
}

// nodeHas says whether a host-network pod shows that an address is a node's.
func (c *Cluster) nodeHas(node string, a netip.Addr) bool {
	return slices.ContainsFunc(c.Pods, func(p Pod) bool { return p.HostNetwork && p.Node == node && p.claims(a) })
}

// PodBook looks up pods by name, as "namespace/name".
type PodBook struct {
	IPs   func(name string) ([]netip.Addr, bool) // the addresses of a pod, if there is one of that name
	Names iter.Seq[string]                       // of all pods
}

// ParseFlows is [Cluster.ParseFlows] for the pods of a book.
func ParseFlows(src, dst string, pods PodBook) ([]Flow, error) {
	host, port, err := splitDestination(dst)
	if err != nil {
		return nil, err
	}
	sources, err := addresses(src, pods)
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", src, err)
	}
	destinations, err := addresses(host, pods)
	if err != nil {
		return nil, fmt.Errorf("destination %q: %w", dst, err)
	}
	var flows []Flow
	for _, s := range sources {
		for _, d := range destinations {
			if s.Is4() != d.Is4() {
				continue
			}
			f := port
			f.Src, f.Dst = s, d
			if f.Proto == ICMP {
				f.Proto, f.ICMPType = echoRequest(d)
			}
			flows = append(flows, f)
		}
	}
	if len(flows) == 0 {
		return nil, fmt.Errorf("%s and %s have no IP family in common", src, host)
	}
	return flows, nil
}

// echoRequest is the protocol and type of a ping to an address.
func echoRequest(a netip.Addr) (proto, icmpType uint8) {
	if a.Is6() {
		return ICMPv6, 128
	}
	return ICMP, 8
}

// splitDestination splits "host:80/tcp"; the flow has the protocol and port.
func splitDestination(dst string) (host string, f Flow, err error) {
	i := strings.LastIndexByte(dst, ':')
	if i < 0 || strings.HasSuffix(dst, "]") {
		return "", f, fmt.Errorf("destination %q: no port: want HOST:PORT, HOST:PORT/PROTO or HOST:icmp", dst)
	}
	host, service := dst[:i], dst[i+1:]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "", f,
			fmt.Errorf("destination %q: put an IPv6 address in brackets before the port, as in [2001:db8::1]:80", dst)
	}
	if strings.EqualFold(service, "icmp") {
		f.Proto = ICMP
		return host, f, nil
	}
	number, proto, named := strings.Cut(service, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return "", f, fmt.Errorf("destination %q: port %q is not a number from 1 to 65535", dst, number)
	}
	f.DstPort, f.Proto = uint16(port), TCP
	if named {
		known := map[string]uint8{"tcp": TCP, "udp": UDP, "sctp": SCTP}
		f.Proto = known[strings.ToLower(proto)]
		if f.Proto == 0 {
			return "", f, fmt.Errorf("destination %q: protocol %q is not tcp, udp or sctp", dst, proto)
		}
	}
	return host, f, nil
}

// addresses returns the addresses of "namespace/pod", or the address that text is. An ::ffff:10.0.0.1 comes from a
// dual-stack socket, which writes IPv4 peers like that.
func addresses(text string, pods PodBook) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if !strings.Contains(text, "/") {
		return nil, fmt.Errorf("neither an address nor namespace/pod")
	}
	ips, found := pods.IPs(text)
	switch {
	case !found:
		return nil, fmt.Errorf("no pod %s%s", text, didYouMean(text, pods.Names))
	case len(ips) == 0:
		return nil, fmt.Errorf("pod %s has no address yet", text)
	}
	return ips, nil
}
