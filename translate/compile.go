// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// networkPolicy is one of the state. Most policies select no pod of this node: of them it keeps what tells that, and
// the text in its shortest form.
type networkPolicy struct {
	name     types.NamespacedName
	spec     []byte // as protobuf
	pods     labels.Selector
	isolates [2]bool // by Direction
	err      error   // what does not compile

	isolations map[*isolation]struct{} // that it is part of; nil without one
	compiled   *[2][]rule              // by Direction; nil if not needed at the moment
}

// source returns the policy as it was given.
func (p *networkPolicy) source() *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: p.name.Namespace, Name: p.name.Name}}
	_ = np.Spec.Unmarshal(p.spec) // it was marshalled here
	return np
}

// rules returns what the policy allows in a direction.
func (p *networkPolicy) rules(d policy.Direction) []rule {
	if p.compiled == nil {
		p.compiled = compile(p.source(), p.spec).compiled
	}
	return p.compiled[d]
}

// join makes the policy part of an isolation.
func (p *networkPolicy) join(iso *isolation) {
	if p.isolations == nil {
		p.isolations = make(map[*isolation]struct{})
	}
	p.isolations[iso] = struct{}{}
}

// leave ends [networkPolicy.join].
func (p *networkPolicy) leave(iso *isolation) {
	delete(p.isolations, iso)
	if len(p.isolations) == 0 {
		p.isolations, p.compiled = nil, nil
	}
}

// rule is one compiled ingress or egress rule.
type rule struct {
	policy    int         // in those of an isolation
	index     int         // in spec.ingress or spec.egress
	resolved  []*selector // of an isolation's: see [State.selectorsOf]
	anyPeer   bool
	selectors []podPeer
	blocks    []block
	ports     rulePorts
}

// rulePorts is what a rule's ports open. A named port's number is the matter of a pod, so it stays a name.
type rulePorts struct {
	open  portSet
	named []policy.NamedPort // Number is not set
}

// podPeer selects pods: of one namespace, of the namespaces that a selector matches or, with neither, of the whole
// cluster.
type podPeer struct {
	namespace  string
	namespaces labels.Selector
	pods       labels.Selector
}

// compile returns the policy that np says; spec is its, as protobuf. What it cannot compile is an error that names the
// field, and narrows: a bad rule allows nothing, a bad requirement of spec.podSelector is left out so that it selects
// no fewer pods, and an unknown policy type isolates both ways.
func compile(np *networkingv1.NetworkPolicy, spec []byte) *networkPolicy {
	p := &networkPolicy{
		name:     types.NamespacedName{Namespace: np.Namespace, Name: np.Name},
		spec:     spec,
		compiled: new([2][]rule),
	}
	path := field.NewPath("spec")
	var errs field.ErrorList
	p.pods, errs = compileSelector(&np.Spec.PodSelector, path.Child("podSelector"))
	errs = append(errs, p.compileTypes(np.Spec, path.Child("policyTypes"))...)
	add := func(d policy.Direction, i int, ports []networkingv1.NetworkPolicyPort,
		peers []networkingv1.NetworkPolicyPeer) {
		r, bad := place{np.Namespace, d, path.Child(d.String()).Index(i)}.compileRule(ports, peers)
		r.index = i
		errs = append(errs, bad...)
		if len(bad) == 0 {
			p.compiled[d] = append(p.compiled[d], r)
		}
	}
	for i, r := range np.Spec.Ingress {
		add(policy.Ingress, i, r.Ports, r.From)
	}
	for i, r := range np.Spec.Egress {
		add(policy.Egress, i, r.Ports, r.To)
	}
	if len(errs) > 0 {
		p.err = fmt.Errorf("NetworkPolicy %s: %w", p.name, errs.ToAggregate())
	}
	return p
}

// compileTypes sets the directions that the policy isolates. Absent types mean Ingress, and Egress if there are egress
// rules: the API server writes that into each policy, a folder of manifests does not.
func (p *networkPolicy) compileTypes(spec networkingv1.NetworkPolicySpec, path *field.Path) field.ErrorList {
	if len(spec.PolicyTypes) == 0 {
		p.isolates[policy.Ingress], p.isolates[policy.Egress] = true, len(spec.Egress) > 0
	}
	var errs field.ErrorList
	for i, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			p.isolates[policy.Ingress] = true
		case networkingv1.PolicyTypeEgress:
			p.isolates[policy.Egress] = true
		default:
			p.isolates = [2]bool{true, true}
			known := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
			errs = append(errs, field.NotSupported(path.Index(i), t, known))
		}
	}
	return errs
}

// place is where a rule stands.
type place struct {
	namespace string
	direction policy.Direction
	path      *field.Path
}

// compileRule compiles one rule.
func (at place) compileRule(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer) (rule,
	field.ErrorList) {
	var r rule
	var errs field.ErrorList
	r.ports, errs = compilePorts(ports, at.path.Child("ports"))
	path := at.path.Child(map[policy.Direction]string{policy.Ingress: "from", policy.Egress: "to"}[at.direction])
	// "If this field is empty or missing, this rule matches all sources (traffic not restricted by source)."
	r.anyPeer = len(peers) == 0
	for i, peer := range peers {
		errs = append(errs, r.addPeer(at.namespace, peer, path.Index(i))...)
	}
	return r, errs
}

// addPeer compiles one peer into the rule.
func (r *rule) addPeer(namespace string, peer networkingv1.NetworkPolicyPeer, path *field.Path) field.ErrorList {
	selects := peer.PodSelector != nil || peer.NamespaceSelector != nil
	switch {
	case peer.IPBlock != nil && selects:
		return field.ErrorList{field.Forbidden(path, "may not specify both ipBlock and another peer")}
	case peer.IPBlock != nil:
		b, errs := compileBlock(peer.IPBlock, path.Child("ipBlock"))
		r.blocks = append(r.blocks, b)
		return errs
	case !selects:
		return field.ErrorList{field.Required(path, "must specify a peer")}
	}
	to := podPeer{namespace: namespace, pods: labels.Everything()}
	var errs field.ErrorList
	if peer.NamespaceSelector != nil {
		to.namespace = ""
		to.namespaces, errs = compileSelector(peer.NamespaceSelector, path.Child("namespaceSelector"))
	}
	if peer.PodSelector != nil {
		pods, bad := compileSelector(peer.PodSelector, path.Child("podSelector"))
		to.pods, errs = pods, append(errs, bad...)
	}
	r.selectors = append(r.selectors, to)
	return errs
}

// compileSelector returns the selector of the requirements that are valid, and errors for the others.
func compileSelector(sel *metav1.LabelSelector, path *field.Path) (labels.Selector, field.ErrorList) {
	selector := labels.NewSelector()
	var errs field.ErrorList
	add := func(path *field.Path, key string, op selection.Operator, values []string) {
		r, err := labels.NewRequirement(key, op, values, field.WithPath(path))
		if err != nil {
			errs = append(errs, requirementErrors(path, key, err)...)
			return
		}
		selector = selector.Add(*r)
	}
	for _, key := range slices.Sorted(maps.Keys(sel.MatchLabels)) {
		add(path.Child("matchLabels"), key, selection.Equals, []string{sel.MatchLabels[key]})
	}
	ops := map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	for i, e := range sel.MatchExpressions {
		path := path.Child("matchExpressions").Index(i)
		op, known := ops[e.Operator]
		if !known {
			errs = append(errs, field.Invalid(path.Child("operator"), e.Operator, "not a valid selector operator"))
			continue
		}
		add(path, e.Key, op, slices.Clone(e.Values))
	}
	return selector, errs
}

// requirementErrors returns what is wrong with a requirement of a selector. The errors know their paths already.
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

// compileBlock compiles an ipBlock.
func compileBlock(b *networkingv1.IPBlock, path *field.Path) (block, field.ErrorList) {
	cidr, ok := parseCIDR(b.CIDR)
	if !ok {
		return block{}, field.ErrorList{field.Invalid(path.Child("cidr"), b.CIDR,
			"must be a CIDR, as 10.9.8.0/24 or 2001:db8::/64")}
	}
	var errs field.ErrorList
	compiled := block{family: nft.FamilyOf(cidr.Addr()), cidr: cidr}
	for i, text := range b.Except {
		path := path.Child("except").Index(i)
		e, ok := parseCIDR(text)
		switch {
		case !ok:
			errs = append(errs, field.Invalid(path, text, "must be a CIDR, as 10.9.8.0/24 or 2001:db8::/64"))
		case !cidr.Contains(e.Addr()) || e.Bits() <= cidr.Bits():
			errs = append(errs, field.Invalid(path, text, "must be a strict subset of "+cidr.String()))
		default:
			compiled.except = append(compiled.except, e)
		}
	}
	return compiled, errs
}

// compilePorts compiles the ports of a rule; none means every port of every protocol.
func compilePorts(ports []networkingv1.NetworkPolicyPort, path *field.Path) (rulePorts, field.ErrorList) {
	if len(ports) == 0 {
		return rulePorts{open: everyPort()}, nil
	}
	var r rulePorts
	var ranges nft.Ports
	var errs field.ErrorList
	for i, port := range ports {
		path := path.Index(i)
		var name corev1.Protocol
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
			r.named = append(r.named, policy.NamedPort{Name: port.Port.StrVal, Proto: proto})
		default:
			ranges = append(ranges, nft.PortRange{Proto: proto, First: first, Last: last})
		}
	}
	r.open = portSet{ranges: ranges.Compact()}
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

// protocol returns the IANA number of a Kubernetes protocol name; an absent one means TCP.
func protocol(p corev1.Protocol) (uint8, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return nft.TCP, true
	case corev1.ProtocolUDP:
		return nft.UDP, true
	case corev1.ProtocolSCTP:
		return nft.SCTP, true
	}
	return 0, false
}
