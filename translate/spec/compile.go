// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Policy is what a NetworkPolicy says.
type Policy struct {
	Mode     Mode
	Pods     labels.Selector // that it isolates
	Isolates [2]bool         // by Direction
	Rules    [2][]Rule       // by Direction
}

// Rule is one ingress or egress rule.
type Rule struct {
	Index   int // in spec.ingress or spec.egress
	AnyPeer bool
	Peers   []Peer
	Blocks  []Block
	Ports   RulePorts
}

// RulePorts is what a rule's ports open. A named port stays a name, since its number depends on the pod.
type RulePorts struct {
	Open  Ports
	Named []policy.NamedPort // Number is not set
}

// Compile returns what np says. What it cannot compile is an error that names the
// field, and narrows: a bad rule allows nothing, a bad requirement of spec.podSelector is left out so that it selects
// no fewer pods, an unknown policy type isolates both ways, and an unknown mode enforces.
func Compile(np *networkingv1.NetworkPolicy) (Policy, error) {
	var p Policy
	path := field.NewPath("spec")
	var errs field.ErrorList
	p.Pods, errs = compileSelector(&np.Spec.PodSelector, path.Child("podSelector"))
	mode, bad := ModeOf(np.Annotations)
	p.Mode = mode
	if bad != nil {
		errs = append(errs, bad)
	}
	errs = append(errs, p.compileTypes(np.Spec, path.Child("policyTypes"))...)
	add := func(d policy.Direction, i int, ports []networkingv1.NetworkPolicyPort,
		peers []networkingv1.NetworkPolicyPeer) {
		r, bad := place{d, path.Child(d.String()).Index(i)}.compileRule(np.Namespace, ports, peers)
		r.Index = i
		errs = append(errs, bad...)
		if len(bad) == 0 {
			p.Rules[d] = append(p.Rules[d], r)
		}
	}
	for i, r := range np.Spec.Ingress {
		add(policy.Ingress, i, r.Ports, r.From)
	}
	for i, r := range np.Spec.Egress {
		add(policy.Egress, i, r.Ports, r.To)
	}
	if len(errs) > 0 {
		name := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
		return p, fmt.Errorf("NetworkPolicy %s: %w", name, errs.ToAggregate())
	}
	return p, nil
}

// compileTypes sets the directions that the policy isolates. Absent types mean Ingress, and Egress if there are egress
// rules: the API server writes that into each policy, but a folder of manifests does not.
func (p *Policy) compileTypes(spec networkingv1.NetworkPolicySpec, path *field.Path) field.ErrorList {
	if len(spec.PolicyTypes) == 0 {
		p.Isolates[policy.Ingress], p.Isolates[policy.Egress] = true, len(spec.Egress) > 0
	}
	var errs field.ErrorList
	for i, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			p.Isolates[policy.Ingress] = true
		case networkingv1.PolicyTypeEgress:
			p.Isolates[policy.Egress] = true
		default:
			p.Isolates = [2]bool{true, true}
			known := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
			errs = append(errs, field.NotSupported(path.Index(i), t, known))
		}
	}
	return errs
}

// place is the position of a rule.
type place struct {
	direction policy.Direction
	path      *field.Path
}

// peers is the path of the rule's peers.
func (at place) peers() *field.Path {
	return at.path.Child([...]string{policy.Ingress: "from", policy.Egress: "to"}[at.direction])
}

// compileRule compiles one rule of a policy in a namespace.
func (at place) compileRule(namespace string, ports []networkingv1.NetworkPolicyPort,
	peers []networkingv1.NetworkPolicyPeer) (Rule, field.ErrorList) {
	var r Rule
	var errs field.ErrorList
	r.Ports, errs = compilePorts(ports, at.path.Child("ports"))
	// "If this field is empty or missing, this rule matches all sources (traffic not restricted by source)."
	r.AnyPeer = len(peers) == 0
	for i, peer := range peers {
		errs = append(errs, r.addPeer(namespace, peer, at.peers().Index(i))...)
	}
	return r, errs
}

// addPeer compiles one peer into the rule.
func (r *Rule) addPeer(namespace string, peer networkingv1.NetworkPolicyPeer, path *field.Path) field.ErrorList {
	selects := peer.PodSelector != nil || peer.NamespaceSelector != nil
	switch {
	case peer.IPBlock != nil && selects:
		return field.ErrorList{field.Forbidden(path, "may not specify both ipBlock and another peer")}
	case peer.IPBlock != nil:
		b, errs := compileBlock(peer.IPBlock, path.Child("ipBlock"))
		r.Blocks = append(r.Blocks, b)
		return errs
	case !selects:
		return field.ErrorList{field.Required(path, "must specify a peer")}
	}
	to := Peer{Namespace: namespace, Pods: labels.Everything()}
	var errs field.ErrorList
	if peer.NamespaceSelector != nil {
		to.Namespace = ""
		to.Namespaces, errs = compileSelector(peer.NamespaceSelector, path.Child("namespaceSelector"))
	}
	if peer.PodSelector != nil {
		pods, bad := compileSelector(peer.PodSelector, path.Child("podSelector"))
		to.Pods, errs = pods, append(errs, bad...)
	}
	r.Peers = append(r.Peers, to)
	return errs
}

// requirementErrors returns what is wrong with a requirement of a selector. The errors have their paths already.
func requirementErrors(path *field.Path, key string, err error) field.ErrorList {
	var errs field.ErrorList
	all := []error{err}
	if several := utilerrors.Aggregate(nil); errors.As(err, &several) {
		all = several.Errors()
	}
	for _, err := range all {
		if one := (*field.Error)(nil); errors.As(err, &one) {
			errs = append(errs, one)
			continue
		}
		errs = append(errs, field.Invalid(path, key, err.Error()))
	}
	return errs
}

// compilePorts compiles the ports of a rule; none means every port of every protocol.
func compilePorts(ports []networkingv1.NetworkPolicyPort, path *field.Path) (RulePorts, field.ErrorList) {
	if len(ports) == 0 {
		return RulePorts{Open: EveryPort()}, nil
	}
	var r RulePorts
	var ranges nft.Ports
	var errs field.ErrorList
	for i, port := range ports {
		path := path.Index(i)
		name := corev1.ProtocolTCP // if absent
		if port.Protocol != nil {
			name = *port.Protocol
		}
		proto, ok := protocol(name)
		if !ok {
			known := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
			errs = append(errs, field.NotSupported(path.Child("protocol"), name, known))
			continue
		}
		first, last, bad := portNumbers(port, path)
		switch {
		case bad != nil:
			errs = append(errs, bad)
		case port.Port != nil && port.Port.Type == intstr.String:
			r.Named = append(r.Named, policy.NamedPort{Name: port.Port.StrVal, Proto: proto})
		default:
			ranges = append(ranges, nft.PortRange{Proto: proto, First: first, Last: last})
		}
	}
	r.Open = Ports{Ranges: ranges.Compact()}
	return r, errs
}

// portNumbers returns the range of a port that has a number or none, and what is wrong with a port of any kind.
func portNumbers(port networkingv1.NetworkPolicyPort, path *field.Path) (first, last uint16, err *field.Error) {
	at, end := path.Child("port"), path.Child("endPort")
	switch {
	case port.Port == nil && port.EndPort != nil:
		return 0, 0, field.Required(at, "must be specified when endPort is")
	case port.Port == nil:
		return 0, 65535, nil // "If this field is not provided, this matches all port names and numbers."
	case port.Port.Type == intstr.String && port.EndPort != nil:
		return 0, 0, field.Invalid(end, *port.EndPort, "may not be specified when port is a name")
	case port.Port.Type == intstr.String:
		if wrong := validation.IsValidPortName(port.Port.StrVal); len(wrong) > 0 {
			return 0, 0, field.Invalid(at, port.Port.StrVal, wrong[0])
		}
		return 0, 0, nil
	}
	number := port.Port.IntVal
	switch {
	case number < 1 || number > 65535:
		return 0, 0, field.Invalid(at, number, "must be between 1 and 65535")
	case port.EndPort == nil:
		return uint16(number), uint16(number), nil
	case *port.EndPort < number || *port.EndPort > 65535:
		return 0, 0, field.Invalid(end, *port.EndPort, fmt.Sprintf("must be between port (%d) and 65535", number))
	}
	return uint16(number), uint16(*port.EndPort), nil
}

// protocol returns the IANA number of a Kubernetes protocol name.
func protocol(p corev1.Protocol) (uint8, bool) {
	switch p {
	case corev1.ProtocolTCP:
		return nft.TCP, true
	case corev1.ProtocolUDP:
		return nft.UDP, true
	case corev1.ProtocolSCTP:
		return nft.SCTP, true
	}
	return 0, false
}
