// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	api "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Action is what a rule of a ClusterNetworkPolicy does with a matching flow.
type Action uint8

// The actions.
const (
	Accept Action = iota
	Deny
	Pass // to the next tier
)

// ClusterPolicy is what a ClusterNetworkPolicy's spec says.
type ClusterPolicy struct {
	Tier     api.Tier         // Admin or Baseline
	Priority int32            // the lowest of a tier comes first
	Subject  []Peer           // any of them
	Rules    [2][]ClusterRule // by Direction, in their order
	Mode     Mode             // Inherited is enforced
}

// ClusterRule is one rule of a ClusterNetworkPolicy.
type ClusterRule struct {
	Index    int    // in spec.ingress or spec.egress
	Name     string // that the rule has, or ""
	Action   Action
	All      bool // the rule is for every address, whatever follows
	Peers    []Peer
	Nodes    []labels.Selector
	Networks []netip.Prefix // masked
	Ports    Ports
	Named    []string // names of ports, of any protocol
}

// CompileCluster returns what p says. What it cannot compile is an error that names the field, and narrows: a bad rule
// that accepts is left out, and any other denies everything. If anything outside rules is bad, all rules are.
func CompileCluster(p policy.ClusterPolicy) (ClusterPolicy, error) {
	path := field.NewPath("spec")
	compiled := ClusterPolicy{Tier: api.AdminTier, Priority: p.Spec.Priority}
	errs := unread(p, func(u policy.Unread) bool { return u.Index < 0 })
	switch p.Spec.Tier {
	case api.AdminTier:
	case api.BaselineTier:
		compiled.Tier = api.BaselineTier
	default: // it may mean the stricter one
		errs = append(errs, field.NotSupported(path.Child("tier"), p.Spec.Tier,
			[]api.Tier{api.AdminTier, api.BaselineTier}))
	}
	subject, bad := clusterPods(p.Spec.Subject.Namespaces, p.Spec.Subject.Pods, path.Child("subject"))
	compiled.Subject, errs = subject, append(errs, bad...)
	if len(bad) == 0 && len(subject) != 1 {
		errs = append(errs, field.Required(path.Child("subject"), "must specify one subject"))
	}
	outside := len(errs) > 0
	for _, d := range policy.Directions() {
		for i, r := range clusterRules(p, d) {
			rule, bad := place{d, path.Child(d.String()).Index(i)}.compileClusterRule(r)
			bad = append(bad, unread(p, func(u policy.Unread) bool { return u.Index == i && u.Direction == d })...)
			errs = append(errs, bad...)
			if outside || len(bad) > 0 {
				rule = ClusterRule{Name: r.Name, Action: Deny, All: true, Ports: EveryPort()}
				if r.Action == api.ClusterNetworkPolicyRuleActionAccept {
					continue
				}
			}
			rule.Index = i
			compiled.Rules[d] = append(compiled.Rules[d], rule)
		}
	}
	mode, badMode := ModeOf(p.Annotations)
	compiled.Mode = mode
	if badMode != nil {
		errs = append(errs, badMode)
	}
	if len(errs) > 0 {
		return compiled, fmt.Errorf("ClusterNetworkPolicy %s: %w", p.Name, errs.ToAggregate())
	}
	return compiled, nil
}

// unread returns errors for some of the unread fields.
func unread(p policy.ClusterPolicy, some func(policy.Unread) bool) field.ErrorList {
	var errs field.ErrorList
	for _, u := range p.Unread {
		if some(u) {
			errs = append(errs, field.Forbidden(field.NewPath(u.Path), u.Problem))
		}
	}
	return errs
}

// clusterRules returns the rules of a direction. Ingress rules have fewer kinds of peers.
func clusterRules(p policy.ClusterPolicy, d policy.Direction) []api.ClusterNetworkPolicyEgressRule {
	if d == policy.Egress {
		return p.Spec.Egress
	}
	rules := make([]api.ClusterNetworkPolicyEgressRule, len(p.Spec.Ingress))
	for i, r := range p.Spec.Ingress {
		rules[i] = api.ClusterNetworkPolicyEgressRule{Name: r.Name, Action: r.Action, Protocols: r.Protocols}
		for _, from := range r.From {
			peer := api.ClusterNetworkPolicyEgressPeer{Namespaces: from.Namespaces, Pods: from.Pods}
			rules[i].To = append(rules[i].To, peer)
		}
	}
	return rules
}

// compileClusterRule compiles one rule.
func (at place) compileClusterRule(r api.ClusterNetworkPolicyEgressRule) (ClusterRule, field.ErrorList) {
	compiled := ClusterRule{Name: r.Name}
	var errs field.ErrorList
	switch r.Action {
	case api.ClusterNetworkPolicyRuleActionAccept:
	case api.ClusterNetworkPolicyRuleActionDeny:
		compiled.Action = Deny
	case api.ClusterNetworkPolicyRuleActionPass:
		compiled.Action = Pass
	default:
		errs = append(errs, field.NotSupported(at.path.Child("action"), r.Action, []string{"Accept", "Deny", "Pass"}))
	}
	peers := at.peers()
	if len(r.To) == 0 {
		errs = append(errs, field.Required(peers, "must have a peer"))
	}
	for i, peer := range r.To {
		errs = append(errs, compiled.addPeer(peer, peers.Index(i))...)
	}
	if len(r.Protocols) == 0 {
		compiled.Ports = EveryPort()
	}
	var open nft.Ports
	for i, protocol := range r.Protocols {
		path := at.path.Child("protocols").Index(i)
		ranges, bad := clusterPort(protocol, path)
		errs, open = append(errs, bad...), append(open, ranges...)
		if protocol.DestinationNamedPort == "" {
			continue
		}
		compiled.Named = append(compiled.Named, protocol.DestinationNamedPort)
		if len(compiled.Networks)+len(compiled.Nodes) > 0 {
			errs = append(errs, field.Forbidden(path.Child("destinationNamedPort"), "networks and nodes have none"))
		}
	}
	if len(open) > 0 {
		compiled.Ports.Ranges = open.Compact()
	}
	return compiled, errs
}

// addPeer compiles one peer into the rule.
func (r *ClusterRule) addPeer(p api.ClusterNetworkPolicyEgressPeer, path *field.Path) field.ErrorList {
	pods, errs := clusterPods(p.Namespaces, p.Pods, path)
	kinds := len(pods)
	r.Peers = append(r.Peers, pods...)
	if p.Nodes != nil {
		nodes, bad := compileSelector(p.Nodes, path.Child("nodes"))
		r.Nodes, errs = append(r.Nodes, nodes), append(errs, bad...)
		kinds++
	}
	for i, text := range p.Networks {
		n, err := netip.ParsePrefix(string(text))
		if err != nil || n.Addr().Is4In6() {
			errs = append(errs, field.Invalid(path.Child("networks").Index(i), text, "must be a CIDR"))
			continue
		}
		r.Networks = append(r.Networks, n.Masked())
	}
	if len(p.Networks) > 0 {
		kinds++
	}
	if len(p.DomainNames) > 0 {
		errs = append(errs, field.Forbidden(path.Child("domainNames"), "is not supported"))
		kinds++
	}
	if kinds != 1 {
		errs = append(errs, field.Required(path, "must be one peer, of a known kind"))
	}
	return errs
}

// clusterPods compiles the selectors of pods of a subject or a peer, either of which may be nil.
func clusterPods(namespaces *metav1.LabelSelector, pods *api.NamespacedPod, path *field.Path) ([]Peer,
	field.ErrorList) {
	var all []Peer
	var errs field.ErrorList
	if namespaces != nil {
		in, bad := compileSelector(namespaces, path.Child("namespaces"))
		all, errs = append(all, Peer{Namespaces: in, Pods: labels.Everything()}.written()), bad
	}
	if pods != nil {
		in, bad := compileSelector(&pods.NamespaceSelector, path.Child("pods", "namespaceSelector"))
		of, worse := compileSelector(&pods.PodSelector, path.Child("pods", "podSelector"))
		all, errs = append(all, Peer{Namespaces: in, Pods: of}.written()), append(append(errs, bad...), worse...)
	}
	return all, errs
}

// clusterPort compiles what is not a name of a protocol's port.
func clusterPort(p api.ClusterNetworkPolicyProtocol, path *field.Path) (nft.Ports, field.ErrorList) {
	kinds := 0
	if p.DestinationNamedPort != "" {
		kinds++
	}
	var ranges nft.Ports
	var errs field.ErrorList
	add := func(proto uint8, port *api.Port, path *field.Path) {
		kinds++
		switch {
		case port == nil || port.Number == 0 && port.Range == nil:
			errs = append(errs, field.Required(path, "must have a port, of a known kind"))
		case port.Number != 0 && port.Range != nil:
			errs = append(errs, field.Forbidden(path, "may not be both a number and a range"))
		case port.Range == nil && (port.Number < 1 || port.Number > 65535):
			errs = append(errs, field.Invalid(path, port.Number, "must be between 1 and 65535"))
		case port.Range == nil:
			number := uint16(port.Number)
			ranges = append(ranges, nft.PortRange{Proto: proto, First: number, Last: number})
		case port.Range.Start < 1 || port.Range.Start >= port.Range.End || port.Range.End > 65535:
			errs = append(errs, field.Invalid(path, fmt.Sprintf("%d-%d", port.Range.Start, port.Range.End),
				"must be a range of ports between 1 and 65535"))
		default:
			ranges = append(ranges, nft.PortRange{
				Proto: proto, First: uint16(port.Range.Start), Last: uint16(port.Range.End),
			})
		}
	}
	if p.TCP != nil {
		add(nft.TCP, p.TCP.DestinationPort, path.Child("tcp", "destinationPort"))
	}
	if p.UDP != nil {
		add(nft.UDP, p.UDP.DestinationPort, path.Child("udp", "destinationPort"))
	}
	if p.SCTP != nil {
		add(nft.SCTP, p.SCTP.DestinationPort, path.Child("sctp", "destinationPort"))
	}
	if kinds != 1 {
		errs = append(errs, field.Required(path, "must be one protocol, of a known kind"))
	}
	return ranges, errs
}
