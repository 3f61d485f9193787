// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Rule is an ingress or egress rule of a policy, as it is written: the two differ in the names of their fields only.
type Rule struct {
	RuleRef
	Peers []networkingv1.NetworkPolicyPeer
	Ports []networkingv1.NetworkPolicyPort
}

// Rules returns a policy's rules for a direction. What they hold is the policy's.
func Rules(np *networkingv1.NetworkPolicy, d Direction) []Rule {
	var rules []Rule
	if d == Ingress {
		for i, r := range np.Spec.Ingress {
			rules = append(rules, Rule{RuleRef{nameOf(np), d, i}, r.From, r.Ports})
		}
		return rules
	}
	for i, r := range np.Spec.Egress {
		rules = append(rules, Rule{RuleRef{nameOf(np), d, i}, r.To, r.Ports})
	}
	return rules
}

// fit says whether a rule's peers include the flow's, whether its ports do, and whether both do together. It does not
// check whether the rule is valid: see [Rule.Fault].
func (c *Cluster) fit(r Rule, e ends) (peers, ports, both bool) {
	_, peer, addr := e.of(r.Direction)
	ports = r.hasPort(e)
	if len(r.Peers) == 0 { // "If this field is empty or missing, this rule matches all sources" (or destinations)
		return true, ports, ports
	}
	for _, p := range r.Peers {
		includes, open := c.selects(r.Policy.Namespace, p, peer), ports
		if p.IPBlock != nil {
			includes = blockHas(p.IPBlock, addr)
			// port names belong to pods, while a block has addresses
			open = r.hasNumber(e.flow) || ports && r.Direction == Ingress
		}
		peers = peers || includes
		both = both || includes && open
	}
	return peers, ports, both
}

// selects says whether a peer with selectors includes a pod. One without any, which is invalid, includes none.
func (c *Cluster) selects(namespace string, p networkingv1.NetworkPolicyPeer, pod *Pod) bool {
	if pod == nil || p.PodSelector == nil && p.NamespaceSelector == nil {
		return false
	}
	if p.NamespaceSelector == nil {
		// "Otherwise it selects the pods matching podSelector in the policy's own namespace."
		return pod.Namespace == namespace && selectorMatches(p.PodSelector, pod.Labels)
	}
	// "If podSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching podSelector in the
	// namespaces selected by namespaceSelector. Otherwise it selects all pods in the namespaces selected by
	// namespaceSelector."
	labels, known := c.Namespaces[pod.Namespace]
	if !known || !selectorMatches(p.NamespaceSelector, labels) {
		return false
	}
	return p.PodSelector == nil || selectorMatches(p.PodSelector, pod.Labels)
}

// hasPort says whether the rule's ports include the flow's, by number or by its name in the destination pod.
func (r Rule) hasPort(e ends) bool {
	if r.hasNumber(e.flow) {
		return true
	}
	for _, p := range r.Ports {
		if p.Port == nil || p.Port.Type != intstr.String || e.dst == nil {
			continue
		}
		for _, have := range e.dst.Ports {
			if have.Name == p.Port.StrVal && have.Proto == ProtocolOf(p) && have.Proto == e.flow.Proto &&
				have.Number == e.flow.DstPort {
				return true
			}
		}
	}
	return false
}

// hasNumber says whether the rule's ports include the flow's by number.
func (r Rule) hasNumber(f Flow) bool {
	if len(r.Ports) == 0 {
		// "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
		return true
	}
	for _, p := range r.Ports {
		switch {
		case ProtocolOf(p) != f.Proto:
		case p.Port == nil: // "If this field is not provided, this matches all port names and numbers."
			return true
		case p.Port.Type == intstr.String:
		case p.EndPort == nil && p.Port.IntVal == int32(f.DstPort):
			return true
		// "indicates that the range of ports from port to endPort if set, inclusive, should be allowed by the policy"
		case p.EndPort != nil && p.Port.IntVal <= int32(f.DstPort) && int32(f.DstPort) <= *p.EndPort:
			return true
		}
	}
	return false
}

// ProtocolOf returns the IANA number of a port's protocol, or 0 if it is none that a policy can name. "If not
// specified, this field defaults to TCP."
func ProtocolOf(p networkingv1.NetworkPolicyPort) uint8 {
	switch {
	case p.Protocol == nil:
		return TCP
	case *p.Protocol == "": // which an API server refuses
		return 0
	}
	return protocolNumber(*p.Protocol)
}

// Network returns the network that a CIDR of an ipBlock means, or the zero prefix. It reads it by the standard
// library's older parser, after leading zeros of decimal fields are gone: the API server has taken them since before Go
// refused them. An IPv4-mapped network is one of IPv4.
func Network(cidr string) netip.Prefix {
	addr, length, _ := strings.Cut(cidr, "/")
	decimal := strings.LastIndex(addr, ":") + 1 // also the end of ::ffff:10.1.2.0
	if fields := strings.Split(addr[decimal:], "."); len(fields) > 1 {
		for i, field := range fields {
			for len(field) > 1 && field[0] == '0' {
				field = field[1:]
			}
			fields[i] = field
		}
		addr = addr[:decimal] + strings.Join(fields, ".")
	}
	_, n, err := net.ParseCIDR(addr + "/" + length)
	if err != nil {
		return netip.Prefix{}
	}
	bits, width := n.Mask.Size()
	if four := n.IP.To4(); four != nil {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(four)), bits-(width-32))
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(n.IP)), bits)
}

// blockHas says whether an ipBlock has an address: in the cidr and in none of the excepts, "CIDRs that should not be
// included". An IPv4-mapped address of a packet is one of IPv6.
func blockHas(b *networkingv1.IPBlock, a netip.Addr) bool {
	has := func(text string) bool { return Network(text).Contains(a) }
	return has(b.CIDR) && !slices.ContainsFunc(b.Except, has)
}

// Faults returns what is invalid in the policies, the first fault of each rule, and in the modes of namespaces, sorted.
// A policy is in force without its faulty parts.
func (c *Cluster) Faults() []error {
	errs := c.clusterFaults()
	add := func(np *networkingv1.NetworkPolicy, field, fault string) {
		if fault != "" {
			errs = append(errs, fmt.Errorf("NetworkPolicy %s: %s%s", nameOf(np), field, fault))
		}
	}
	for name, value := range c.Modes {
		if fault := modeFault(value); fault != "" {
			errs = append(errs, fmt.Errorf("namespace %s: %s%s", name, modePath, fault))
		}
	}
	for _, np := range c.Policies {
		if value, own := np.Annotations[ModeAnnotation]; own {
			add(np, modePath, modeFault(value))
		}
		add(np, "", selectorFault("spec.podSelector", &np.Spec.PodSelector))
		for i, t := range np.Spec.PolicyTypes {
			if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
				add(np, fmt.Sprintf("spec.policyTypes[%d]: ", i), fmt.Sprintf("%q is not Ingress or Egress", t))
			}
		}
		for _, d := range Directions() {
			for _, r := range Rules(np, d) {
				add(np, fmt.Sprintf("spec.%s[%d].", d, r.Index), r.Fault())
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// Fault returns what is not valid in the rule, as the path of the field and what is wrong, or "". A rule with anything
// that is not valid allows nothing.
func (r Rule) Fault() string {
	for i, p := range r.Ports {
		if fault := portFault(p); fault != "" {
			return fmt.Sprintf("ports[%d]%s", i, fault)
		}
	}
	field := "from"
	if r.Direction == Egress {
		field = "to"
	}
	for i, p := range r.Peers {
		if fault := peerFault(p); fault != "" {
			return fmt.Sprintf("%s[%d]%s", field, i, fault)
		}
	}
	return ""
}

// portFault returns what is invalid in a port. About endPort: "This field cannot be defined if the port field is not
// defined or if the port field is defined as a named (string) port. The endPort must be equal or greater than port."
func portFault(p networkingv1.NetworkPolicyPort) string {
	switch {
	case ProtocolOf(p) == 0:
		return fmt.Sprintf(".protocol: %q is not TCP, UDP or SCTP", *p.Protocol)
	case p.Port == nil && p.EndPort != nil:
		return ".endPort: there is no port"
	case p.Port == nil:
		return ""
	case p.Port.Type == intstr.String && p.EndPort != nil:
		return ".endPort: the port is a name"
	case p.Port.Type == intstr.String && len(validation.IsValidPortName(p.Port.StrVal)) > 0:
		return fmt.Sprintf(".port: %q is not a port name", p.Port.StrVal)
	case p.Port.Type == intstr.String:
		return ""
	case len(validation.IsValidPortNum(int(p.Port.IntVal))) > 0:
		return fmt.Sprintf(".port: %d is not in 1-65535", p.Port.IntVal)
	case p.EndPort != nil && *p.EndPort < p.Port.IntVal:
		return fmt.Sprintf(".endPort: %d is less than port %d", *p.EndPort, p.Port.IntVal)
	case p.EndPort != nil && len(validation.IsValidPortNum(int(*p.EndPort))) > 0:
		return fmt.Sprintf(".endPort: %d is not in 1-65535", *p.EndPort)
	}
	return ""
}

// peerFault returns what is invalid in a peer. About ipBlock: "If this field is set then neither of the other fields
// can be."
func peerFault(p networkingv1.NetworkPolicyPeer) string {
	switch {
	case p.IPBlock == nil && p.PodSelector == nil && p.NamespaceSelector == nil:
		return ": it has no podSelector, namespaceSelector or ipBlock"
	case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
		return ".ipBlock: it is beside a selector"
	case p.IPBlock != nil:
		return blockFault(p.IPBlock)
	}
	return cmp.Or(selectorFault(".podSelector", p.PodSelector),
		selectorFault(".namespaceSelector", p.NamespaceSelector))
}

// blockFault returns what is invalid in an ipBlock. "Except values will be rejected if they are outside the cidr
// range".
func blockFault(b *networkingv1.IPBlock) string {
	n := Network(b.CIDR)
	if !n.IsValid() {
		return fmt.Sprintf(".ipBlock.cidr: %q is not a CIDR", b.CIDR)
	}
	for i, text := range b.Except {
		e := Network(text)
		switch {
		case !e.IsValid():
			return fmt.Sprintf(".ipBlock.except[%d]: %q is not a CIDR", i, text)
		case e.Bits() <= n.Bits(), !n.Contains(e.Addr()):
			return fmt.Sprintf(".ipBlock.except[%d]: %s is not inside %s", i, text, b.CIDR)
		}
	}
	return ""
}
