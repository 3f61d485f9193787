// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pod is what policy needs to know about a pod.
type Pod struct {
	types.NamespacedName
	Node        string            // spec.nodeName
	Labels      map[string]string // immutable
	IPs         []netip.Addr      // status.podIPs; none while the pod has no address
	Ports       []NamedPort       // of containers and sidecar init containers, by name and protocol
	HostNetwork bool              // its addresses are the node's: never isolated, matched by ipBlock alone
	Running     bool              // status.phase is Running
	Terminating bool              // it is being deleted, or its node is lost
	Created     time.Time         // metadata.creationTimestamp
	Owner       string            // the controller as "ReplicaSet/web-5d9f", or ""
}

// NamedPort is a container port that has a name. A pod may use one name for several protocols.
type NamedPort struct {
	Name   string
	Proto  uint8 // IANA protocol number
	Number uint16
}

// PodFrom returns what policy needs to know about p, and false for a finished pod (Succeeded or Failed): its addresses
// may belong to another pod at any time, so it must be deleted at once. An address that does not parse is left out; the
// error names the field.
func PodFrom(p *corev1.Pod) (Pod, bool, error) {
	pod := Pod{
		NamespacedName: types.NamespacedName{Namespace: p.Namespace, Name: p.Name},
		Node:           p.Spec.NodeName,
		Labels:         p.Labels,
		HostNetwork:    p.Spec.HostNetwork,
		Running:        p.Status.Phase == corev1.PodRunning,
		Terminating: p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodUnknown ||
			p.Status.Reason == nodeLost,
		Created: p.CreationTimestamp.Time,
		Ports:   namedPorts(p.Spec),
	}
	for _, o := range p.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			pod.Owner = o.Kind + "/" + o.Name
		}
	}
	ips, err := podIPs(p)
	if err != nil {
		err = fmt.Errorf("pod %s: %w", pod.NamespacedName, err)
	}
	pod.IPs = ips
	finished := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	return pod, !finished, err
}

// nodeLost is the status.reason that a control plane may set on pods whose node no longer answers.
const nodeLost = "NodeLost"

// notOfPods says whether no pod can have an address: policed as a pod's, it would stop the node's own packets.
func notOfPods(a netip.Addr) bool { return a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() }

// podIPs returns the addresses of status.podIPs, or that of status.podIP if the list is empty.
func podIPs(p *corev1.Pod) ([]netip.Addr, error) {
	s := p.Status
	var ips []netip.Addr
	var err error
	add := func(field, text string) {
		a, parseErr := netip.ParseAddr(text)
		switch {
		case parseErr != nil || a.Zone() != "":
			err = fmt.Errorf("%s: %q is not an IP address", field, text)
		case !p.Spec.HostNetwork && notOfPods(a.Unmap()):
			err = fmt.Errorf("%s: %s cannot be a pod's address", field, a)
		case !slices.Contains(ips, a.Unmap()):
			ips = append(ips, a.Unmap())
		}
	}
	for i, ip := range s.PodIPs {
		add(fmt.Sprintf("status.podIPs[%d]", i), ip.IP)
	}
	if len(s.PodIPs) == 0 && s.PodIP != "" {
		add("status.podIP", s.PodIP)
	}
	return ips, err
}

// namedPorts returns the named ports of containers and of sidecars, which are init containers that always restart
// (KEP-753). Other init containers have ended by the time a pod serves.
func namedPorts(spec corev1.PodSpec) []NamedPort {
	var ports []NamedPort
	add := func(c corev1.Container) {
		for _, p := range c.Ports {
			proto := protocolNumber(p.Protocol)
			if p.Name == "" || proto == 0 || p.ContainerPort < 1 || p.ContainerPort > 65535 {
				continue
			}
			ports = append(ports, NamedPort{p.Name, proto, uint16(p.ContainerPort)})
		}
	}
	for _, c := range spec.Containers {
		add(c)
	}
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	slices.SortFunc(ports, func(a, b NamedPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Number, b.Number))
	})
	return slices.Compact(ports)
}

// IANA protocol numbers that policies name, and those of pings.
const (
	ICMP   uint8 = 1
	TCP    uint8 = 6
	UDP    uint8 = 17
	ICMPv6 uint8 = 58
	SCTP   uint8 = 132
)

// protocolNumber returns the IANA number of a Kubernetes protocol name, or 0; absent means TCP.
func protocolNumber(p corev1.Protocol) uint8 {
	switch p {
	case corev1.ProtocolTCP, "":
		return TCP
	case corev1.ProtocolUDP:
		return UDP
	case corev1.ProtocolSCTP:
		return SCTP
	}
	return 0
}

// protocolName names an IANA protocol number for operators.
func protocolName(proto uint8) string {
	switch proto {
	case ICMP:
		return "ICMP"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMPv6:
		return "ICMPv6"
	case SCTP:
		return "SCTP"
	}
	return strconv.Itoa(int(proto))
}

// PodCIDRs returns a node's pod address ranges, according to its Node; the error names what does not parse.
func PodCIDRs(spec corev1.NodeSpec) ([]netip.Prefix, error) {
	texts := spec.PodCIDRs
	if len(texts) == 0 && spec.PodCIDR != "" {
		texts = []string{spec.PodCIDR}
	}
	var cidrs []netip.Prefix
	var err error
	for _, text := range texts {
		p, parseErr := netip.ParsePrefix(text)
		if parseErr != nil || p.Bits() == 0 || p.Addr().Is4In6() {
			err = fmt.Errorf("podCIDRs: %q is not a range of pods' addresses", text)
			continue
		}
		cidrs = append(cidrs, p.Masked())
	}
	return cidrs, err
}
