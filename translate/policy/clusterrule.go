// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// ClusterRuleRef names a rule of a ClusterNetworkPolicy.
type ClusterRuleRef struct {
	Tier      v1alpha2.Tier // that the policy counts in: Admin or Baseline
	Policy    string
	Direction Direction
	Index     int    // in spec.ingress or spec.egress
	Name      string // that the rule has, or ""
}

// String returns the rule as "Admin: shop-guard rule 3 `no-ssh`", where the first rule is 1.
func (r ClusterRuleRef) String() string {
	text := fmt.Sprintf("%s: %s rule %d", r.Tier, r.Policy, r.Index+1)
	switch {
	case r.Name == "":
		return text
	case plain(r.Name) != r.Name || strings.Contains(r.Name, "`"):
		return text + " " + strconv.Quote(r.Name)
	}
	return text + " `" + r.Name + "`"
}

// plain returns foreign text as it is, unless a line could not hold it.
func plain(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// ClusterRule is a rule of a ClusterNetworkPolicy, as it is written.
type ClusterRule struct {
	ClusterRuleRef
	Action    v1alpha2.ClusterNetworkPolicyRuleAction
	Peers     []v1alpha2.ClusterNetworkPolicyEgressPeer // of ingress, too
	Protocols []v1alpha2.ClusterNetworkPolicyProtocol

	// Fault is what is invalid in the rule, as the path of the field and what is wrong, or "". Such a rule fails
	// closed: "For 'Accept' rules, 'fail closed' means: 'treat the rule as matching no traffic'. For 'Deny' and 'Pass'
	// rules, 'fail closed' means: 'treat the rule as a "Deny all" rule'."
	Fault string
}

// counts says whether the rule may match anything.
func (r ClusterRule) counts() bool {
	return r.Fault == "" || r.Action != v1alpha2.ClusterNetworkPolicyRuleActionAccept
}

// Tier returns the tier in which a policy counts. An unknown one may mean the stricter one.
func (p ClusterPolicy) Tier() v1alpha2.Tier {
	if p.Spec.Tier == v1alpha2.BaselineTier {
		return v1alpha2.BaselineTier
	}
	return v1alpha2.AdminTier
}

// Rules returns a policy's rules for a direction, in order. They share the policy's memory.
func (p ClusterPolicy) Rules(d Direction) []ClusterRule {
	var all []ClusterRule
	add := func(i int, name string, r ClusterRule) {
		r.ClusterRuleRef = ClusterRuleRef{p.Tier(), p.Name, d, i, name}
		if r.Fault = p.Fault(); r.Fault == "" {
			r.Fault = p.ruleFault(r)
		}
		all = append(all, r)
	}
	if d == Egress {
		for i, r := range p.Spec.Egress {
			add(i, r.Name, ClusterRule{Action: r.Action, Peers: r.To, Protocols: r.Protocols})
		}
		return all
	}
	for i, r := range p.Spec.Ingress {
		var peers []v1alpha2.ClusterNetworkPolicyEgressPeer
		for _, from := range r.From {
			peers = append(peers, v1alpha2.ClusterNetworkPolicyEgressPeer{Namespaces: from.Namespaces, Pods: from.Pods})
		}
		add(i, r.Name, ClusterRule{Action: r.Action, Peers: peers, Protocols: r.Protocols})
	}
	return all
}

// Fault returns what is invalid in a policy outside its rules, as the path of the field and what is wrong, or "". It is
// a fault of each of its rules.
func (p ClusterPolicy) Fault() string {
	for _, u := range p.Unread {
		if u.Index < 0 {
			return u.Path + ": " + u.Problem
		}
	}
	subject := p.Spec.Subject
	if p.Spec.Tier != v1alpha2.AdminTier && p.Spec.Tier != v1alpha2.BaselineTier {
		return fmt.Sprintf("spec.tier: %q is not Admin or Baseline", p.Spec.Tier)
	}
	if problem := oneOf(subject.Namespaces != nil, subject.Pods != nil); problem != "" {
		return "spec.subject: " + problem
	}
	if fault := podsFault(subject.Namespaces, subject.Pods); fault != "" {
		return "spec.subject" + fault
	}
	return ""
}

// Selects says whether a policy's subject includes a pod outside the host network, with these labels, in a namespace
// with these known labels. Of an invalid selector, the valid requirements count, so that it selects no fewer than it
// may mean; a subject without known fields selects none.
func (p ClusterPolicy) Selects(namespace, pod map[string]string) bool {
	s := p.Spec.Subject
	return s.Namespaces != nil && selectsAtLeast(s.Namespaces, namespace) ||
		s.Pods != nil && selectsAtLeast(&s.Pods.NamespaceSelector, namespace) &&
			selectsAtLeast(&s.Pods.PodSelector, pod)
}

// tierPolicies returns the ClusterNetworkPolicies whose subject includes a pod, which may be nil.
func (c *Cluster) tierPolicies(pod *Pod) []ClusterPolicy {
	if pod == nil || pod.HostNetwork { // "host-networked pods are not included in subject selection"
		return nil
	}
	labels, known := c.Namespaces[pod.Namespace]
	var all []ClusterPolicy
	for _, p := range c.ClusterPolicies {
		if known && p.Selects(labels, pod.Labels) {
			all = append(all, p)
		}
	}
	return all
}

// Subjects returns the subjects of a policy that have addresses of their own, as sorted namespace/name by node.
func (c *Cluster) Subjects(p ClusterPolicy) map[string][]string {
	byNode := make(map[string][]string)
	for i := range c.Pods {
		pod := &c.Pods[i]
		labels, known := c.Namespaces[pod.Namespace]
		if known && !pod.HostNetwork && len(pod.IPs) > 0 && p.Selects(labels, pod.Labels) {
			byNode[pod.Node] = append(byNode[pod.Node], pod.String())
		}
	}
	for _, pods := range byNode {
		slices.Sort(pods)
	}
	return byNode
}

// TierRules returns the enforced rules of a tier for the pod in a direction, in order of evaluation: "Policies with
// lower priority values have higher precedence", of equal ones the first by name, and "a rule that appears at the top
// of the ingress rules would take the highest precedence".
func (c *Cluster) TierRules(tier v1alpha2.Tier, d Direction, pod *Pod) []ClusterRule {
	policies := slices.DeleteFunc(c.tierPolicies(pod), func(p ClusterPolicy) bool {
		return p.Tier() != tier || c.AuditedInTier(p)
	})
	slices.SortFunc(policies, func(a, b ClusterPolicy) int {
		return cmp.Or(cmp.Compare(a.Spec.Priority, b.Spec.Priority), cmp.Compare(a.Name, b.Name))
	})
	var rules []ClusterRule
	for _, p := range policies {
		rules = append(rules, p.Rules(d)...)
	}
	return rules
}

// ClusterVerdict is what a tier says about a flow: its first matching rule.
type ClusterVerdict struct {
	ClusterRuleRef
	Action v1alpha2.ClusterNetworkPolicyRuleAction // Deny if the rule fails closed
	Fault  string                                  // why it does, or ""
}

// ask returns what a tier says about a flow, or nil if none of its rules matches.
func (c *Cluster) ask(tier v1alpha2.Tier, d Direction, e ends) *ClusterVerdict {
	pod, _, _ := e.of(d)
	for _, r := range c.TierRules(tier, d, pod) {
		switch peers, protocols := c.clusterFit(r, e); {
		case r.Fault != "" && r.Action == v1alpha2.ClusterNetworkPolicyRuleActionAccept:
		case r.Fault != "":
			return &ClusterVerdict{r.ClusterRuleRef, v1alpha2.ClusterNetworkPolicyRuleActionDeny, r.Fault}
		case peers && protocols:
			return &ClusterVerdict{r.ClusterRuleRef, r.Action, ""}
		}
	}
	return nil
}

// decides says whether the verdict is final for its direction. "Pass: Skips all further ClusterNetworkPolicy rules in
// the current tier for the selected traffic, and passes evaluation to the next tier."
func (v *ClusterVerdict) decides() bool {
	return v != nil && v.Action != v1alpha2.ClusterNetworkPolicyRuleActionPass
}

// accepts says whether the verdict accepts the flow.
func (v *ClusterVerdict) accepts() bool {
	return v != nil && v.Action == v1alpha2.ClusterNetworkPolicyRuleActionAccept
}

// clusterFit says whether a valid rule's peers include the flow's, and its protocols the flow's.
func (c *Cluster) clusterFit(r ClusterRule, e ends) (peers, protocols bool) {
	_, peer, addr := e.of(r.Direction)
	peers = slices.ContainsFunc(r.Peers, func(p v1alpha2.ClusterNetworkPolicyEgressPeer) bool {
		return c.clusterPeerHas(p, peer, addr)
	})
	// "If unspecified, protocol-specific attributes will not be used to match traffic."
	protocols = len(r.Protocols) == 0 ||
		slices.ContainsFunc(r.Protocols, func(p v1alpha2.ClusterNetworkPolicyProtocol) bool {
			return protocolHas(p, e)
		})
	return peers, protocols
}

// clusterPeerHas says whether a peer includes a pod, or an address. "host-networked pods are not included in this type
// of peer": their addresses are no pod's.
func (c *Cluster) clusterPeerHas(p v1alpha2.ClusterNetworkPolicyEgressPeer, pod *Pod, a netip.Addr) bool {
	if pod != nil {
		labels, known := c.Namespaces[pod.Namespace]
		if known && p.Namespaces != nil && selectorMatches(p.Namespaces, labels) ||
			known && p.Pods != nil && selectorMatches(&p.Pods.NamespaceSelector, labels) &&
				selectorMatches(&p.Pods.PodSelector, pod.Labels) {
			return true
		}
	}
	if p.Nodes != nil && slices.ContainsFunc(c.NodePeers, func(n NodePeer) bool {
		return slices.Contains(n.Addresses, a) && selectorMatches(p.Nodes, n.Labels)
	}) {
		return true
	}
	return slices.ContainsFunc(p.Networks, func(text v1alpha2.CIDR) bool {
		n, err := netip.ParsePrefix(string(text))
		return err == nil && n.Contains(a)
	})
}

// protocolHas says whether a valid protocol includes a flow's, by number, or by its name in the destination pod.
func protocolHas(p v1alpha2.ClusterNetworkPolicyProtocol, e ends) bool {
	if p.DestinationNamedPort != "" {
		return e.dst != nil && slices.ContainsFunc(e.dst.Ports, func(n NamedPort) bool {
			return n.Name == p.DestinationNamedPort && n.Proto == e.flow.Proto && n.Number == e.flow.DstPort
		})
	}
	proto, port := ClusterPort(p)
	if port == nil || proto != e.flow.Proto {
		return false
	}
	if port.Range != nil {
		return port.Range.Start <= int32(e.flow.DstPort) && int32(e.flow.DstPort) <= port.Range.End
	}
	return port.Number == int32(e.flow.DstPort)
}

// ClusterPort returns the IANA number of a protocol that has one, and its port, or 0 and nil.
func ClusterPort(p v1alpha2.ClusterNetworkPolicyProtocol) (uint8, *v1alpha2.Port) {
	switch {
	case p.TCP != nil:
		return TCP, p.TCP.DestinationPort
	case p.UDP != nil:
		return UDP, p.UDP.DestinationPort
	case p.SCTP != nil:
		return SCTP, p.SCTP.DestinationPort
	}
	return 0, nil
}

// ruleFault returns what is invalid in a rule.
func (p ClusterPolicy) ruleFault(r ClusterRule) string {
	for _, u := range p.Unread {
		if u.Index == r.Index && u.Direction == r.Direction {
			return u.Path + ": " + u.Problem
		}
	}
	field, path := "to", fmt.Sprintf("spec.%s[%d].", r.Direction, r.Index)
	if r.Direction == Ingress {
		field = "from"
	}
	switch r.Action {
	case v1alpha2.ClusterNetworkPolicyRuleActionAccept, v1alpha2.ClusterNetworkPolicyRuleActionDeny,
		v1alpha2.ClusterNetworkPolicyRuleActionPass:
	default:
		return fmt.Sprintf("%saction: %q is not Accept, Deny or Pass", path, r.Action)
	}
	if len(r.Peers) == 0 { // "This field must be defined and contain at least one item."
		return path + field + ": there is no peer"
	}
	for i, peer := range r.Peers {
		if fault := clusterPeerFault(peer); fault != "" {
			return fmt.Sprintf("%s%s[%d]%s", path, field, i, fault)
		}
	}
	for i, protocol := range r.Protocols {
		if fault := clusterProtocolFault(protocol, r.Peers); fault != "" {
			return fmt.Sprintf("%sprotocols[%d]%s", path, i, fault)
		}
	}
	return ""
}

// oneOf returns what is wrong unless exactly one field is set. "If an implementation sees no fields are set then it can
// infer that the deployed CRD is of an incompatible version with an unknown field."
func oneOf(set ...bool) string {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	switch n {
	case 0:
		return "no field of it is known"
	case 1:
		return ""
	}
	return "it has more than one field"
}

// clusterPeerFault returns what is invalid in a peer.
func clusterPeerFault(p v1alpha2.ClusterNetworkPolicyEgressPeer) string {
	if fault := oneOf(p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, len(p.Networks) > 0,
		len(p.DomainNames) > 0); fault != "" {
		return ": " + fault
	}
	if len(p.DomainNames) > 0 {
		return ".domainNames: not supported"
	}
	if fault := selectorFault(".nodes", p.Nodes); fault != "" {
		return fault
	}
	for i, text := range p.Networks {
		if n, err := netip.ParsePrefix(string(text)); err != nil || n.Addr().Is4In6() {
			return fmt.Sprintf(".networks[%d]: %q is not a CIDR", i, text)
		}
	}
	return podsFault(p.Namespaces, p.Pods)
}

// podsFault returns what is invalid in the selectors of a subject or a peer, either of which may be nil.
func podsFault(namespaces *metav1.LabelSelector, pods *v1alpha2.NamespacedPod) string {
	if pods == nil {
		return selectorFault(".namespaces", namespaces)
	}
	return cmp.Or(selectorFault(".namespaces", namespaces),
		selectorFault(".pods.namespaceSelector", &pods.NamespaceSelector),
		selectorFault(".pods.podSelector", &pods.PodSelector))
}

// clusterProtocolFault returns what is invalid in a protocol of a rule with those peers.
func clusterProtocolFault(p v1alpha2.ClusterNetworkPolicyProtocol,
	peers []v1alpha2.ClusterNetworkPolicyEgressPeer) string {
	if fault := oneOf(p.TCP != nil, p.UDP != nil, p.SCTP != nil, p.DestinationNamedPort != ""); fault != "" {
		return ": " + fault
	}
	if p.DestinationNamedPort != "" {
		if slices.ContainsFunc(peers, func(peer v1alpha2.ClusterNetworkPolicyEgressPeer) bool {
			return peer.Nodes != nil || len(peer.Networks) > 0
		}) {
			return ".destinationNamedPort: nodes and networks have no named ports"
		}
		return ""
	}
	outside := func(n int32) bool { return n < 1 || n > 65535 }
	switch _, port := ClusterPort(p); {
	case port == nil: // the API server rejects that, so there was an unknown field
		return ": no field of the protocol is known"
	case oneOf(port.Number != 0, port.Range != nil) != "":
		return ".destinationPort: " + oneOf(port.Number != 0, port.Range != nil)
	case port.Range == nil && outside(port.Number):
		return fmt.Sprintf(".destinationPort: %d is not in 1-65535", port.Number)
	case port.Range != nil && (outside(port.Range.Start) || outside(port.Range.End) ||
		port.Range.Start >= port.Range.End):
		return fmt.Sprintf(".destinationPort: %d-%d is not a range", port.Range.Start, port.Range.End)
	}
	return ""
}
