// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// tierPolicy is a ClusterNetworkPolicy.
type tierPolicy struct {
	policy.ClusterPolicy
	rules [2][]tierRule
}

// tierRule is one of its rules, of which only those that match something are there.
type tierRule struct {
	rule
	ref    policy.ClusterRuleRef
	action v1alpha2.ClusterNetworkPolicyRuleAction
}

// tierList is the rules of a tier for the pods that the same policies select in a direction, in their order. Ingress
// lists of pods whose names of ports mean other numbers are several.
type tierList struct {
	of       isolation // its direction, and the names of ports
	policies []tierPolicy
}

func tierNames() [2]v1alpha2.Tier {
	return [...]v1alpha2.Tier{v1alpha2.AdminTier, v1alpha2.BaselineTier}
}

// admin and baseline are the numbers of the tiers.
const (
	admin = iota
	baseline
)

// readTiers reads the ClusterNetworkPolicies of a cluster, in the order in which they are asked.
func (r *rules) readTiers(c *policy.Cluster) {
	for _, p := range c.ClusterPolicies {
		read := tierPolicy{ClusterPolicy: p}
		for _, d := range policy.Directions() {
			for _, text := range p.Rules(d) {
				if rule, matches := r.readTierRule(c, text); matches {
					read.rules[d] = append(read.rules[d], rule)
				}
			}
		}
		tier := admin
		if p.Tier() == v1alpha2.BaselineTier {
			tier = baseline
		}
		r.tiers[tier] = append(r.tiers[tier], read)
	}
	for _, tier := range r.tiers {
		slices.SortFunc(tier, func(a, b tierPolicy) int {
			return cmp.Or(cmp.Compare(a.Spec.Priority, b.Spec.Priority), cmp.Compare(a.Name, b.Name))
		})
	}
}

// readTierRule reads a rule, and says whether it matches anything.
func (r *rules) readTierRule(c *policy.Cluster, text policy.ClusterRule) (read tierRule, matches bool) {
	read = tierRule{ref: text.ClusterRuleRef, action: text.Action}
	if text.Fault != "" {
		read.action, read.fault = v1alpha2.ClusterNetworkPolicyRuleActionDeny, text.Fault
		read.anyPeer, read.ports = true, everything()
		return read, text.Action != v1alpha2.ClusterNetworkPolicyRuleActionAccept
	}
	for _, peer := range text.Peers {
		switch {
		case peer.Namespaces != nil:
			read.selectors = append(read.selectors, r.clusterSelector(peer.Namespaces, nil))
		case peer.Pods != nil:
			read.selectors = append(read.selectors,
				r.clusterSelector(&peer.Pods.NamespaceSelector, &peer.Pods.PodSelector))
		case peer.Nodes != nil:
			read.blocks = append(read.blocks, r.nodes(c, valid(peer.Nodes))...)
		}
		for _, cidr := range peer.Networks {
			p, _ := netip.ParsePrefix(string(cidr)) // it is valid
			read.blocks = append(read.blocks, r.networks(union(spanOf(p))))
		}
	}
	if len(text.Protocols) == 0 {
		read.ports = everything()
	}
	for _, p := range text.Protocols {
		switch proto, port := policy.ClusterPort(p); {
		case port == nil:
			for _, proto := range withPorts() {
				read.named = append(read.named, policy.NamedPort{Name: p.DestinationNamedPort, Proto: proto})
			}
			r.names[p.DestinationNamedPort] = true
		case port.Range != nil:
			some := portRange{proto, uint16(port.Range.Start), uint16(port.Range.End)}
			read.ports = read.ports.union(Ports{ranges: []portRange{some}})
		default:
			one := portRange{proto, uint16(port.Number), uint16(port.Number)}
			read.ports = read.ports.union(Ports{ranges: []portRange{one}})
		}
	}
	return read, true
}

// nodes returns the numbers of the addresses of the nodes that a selector matches, as blocks: of each family, if there
// are any.
func (r *rules) nodes(c *policy.Cluster, s labels.Selector) []int {
	var spans []Span
	for _, n := range c.NodePeers {
		if s.Matches(labels.Set(n.Labels)) {
			for _, a := range n.Addresses {
				spans = append(spans, Span{a, a})
			}
		}
	}
	var numbers []int
	for _, f := range families() {
		if of := union(spans...).in(f); len(of) > 0 {
			numbers = append(numbers, r.networks(of))
		}
	}
	return numbers
}

// clusterSelector returns the number of a peer of a ClusterNetworkPolicy; without a selector of pods, they all match.
func (r *rules) clusterSelector(namespaces, pods *metav1.LabelSelector) int {
	s := selector{namespaces: valid(namespaces), pods: valid(pods)}
	return number(r.selectorIDs, s.namespaces.String()+"//"+s.pods.String(), func() {
		r.selectors = append(r.selectors, s)
	})
}

// tierLists finds the lists of an identity, by direction and tier; nil where it has no rule.
func (r *rules) tierLists(c *policy.Cluster, id *identity) (lists [2][2]*tierList) {
	namespace, known := c.Namespaces[id.pod.Namespace]
	for tier, policies := range r.tiers {
		if !known || len(policies) == 0 {
			continue
		}
		selecting := slices.DeleteFunc(slices.Clone(policies), func(p tierPolicy) bool {
			return !p.Selects(namespace, id.pod.Labels)
		})
		for _, d := range policy.Directions() {
			of := slices.DeleteFunc(slices.Clone(selecting), func(p tierPolicy) bool { return len(p.rules[d]) == 0 })
			if len(of) == 0 {
				continue
			}
			l := &tierList{of: isolation{direction: d}, policies: of}
			if d == policy.Ingress {
				l.of.ports = id.ports
			}
			var names []string
			for _, p := range of {
				names = append(names, p.Name)
			}
			key := fmt.Sprint(tier, d, l.of.ports, names)
			if r.tierIDs[key] == nil {
				r.tierIDs[key] = l
			}
			lists[d][tier] = r.tierIDs[key]
		}
	}
	return lists
}

// matched yields the rules of a list that decide about something, each with what it decides about, given what each of
// them would match.
func (m *Matrix) matched(l *tierList, match func(*tierRule) portsID) iter.Seq2[*tierRule, portsID] {
	return func(yield func(*tierRule, portsID) bool) {
		rest := allPorts
		for _, p := range l.policies {
			for i := range p.rules[l.of.direction] {
				r := &p.rules[l.of.direction][i]
				ports := m.ports.intersect(rest, match(r))
				if ports == noPorts {
					continue
				}
				if rest = m.ports.minus(rest, ports); !yield(r, ports) || rest == noPorts {
					return
				}
			}
		}
	}
}

// toClass returns what each rule of a list would match of a class.
func (m *Matrix) toClass(l *tierList, c int) func(*tierRule) portsID {
	return func(r *tierRule) portsID { return m.openTo(&l.of, &r.rule, c) }
}

// toAddress returns what each rule of a list would match of an address that is no pod's.
func (m *Matrix) toAddress(l *tierList, a netip.Addr) func(*tierRule) portsID {
	return func(r *tierRule) portsID {
		byNumber, _ := m.opens(&l.of, &r.rule)
		if !r.anyPeer && !slices.ContainsFunc(r.blocks, func(b int) bool { return m.rules.blocks[b].Contains(a) }) {
			return noPorts
		}
		return byNumber
	}
}

// verdict returns what a list accepts and denies, or nothing of either without a list.
func (m *Matrix) verdict(l *tierList, match func(*tierList) func(*tierRule) portsID) (accepts, denies portsID) {
	accepts, denies = noPorts, noPorts
	if l == nil {
		return accepts, denies
	}
	for r, ports := range m.matched(l, match(l)) {
		switch r.action {
		case v1alpha2.ClusterNetworkPolicyRuleActionAccept:
			accepts = m.ports.union(accepts, ports)
		case v1alpha2.ClusterNetworkPolicyRuleActionDeny:
			denies = m.ports.union(denies, ports)
		}
	}
	return accepts, denies
}

// reach is what all tiers together open in a direction.
type reach struct {
	grants  []portsID // by class
	outside map[family][]opening
}

// tiered is what decides in a direction; any of it may be nil.
type tiered struct {
	iso   *isolation
	lists [2]*tierList
}

// open returns what is open, given what the isolation opens.
func (m *Matrix) open(t tiered, isolated portsID, match func(*tierList) func(*tierRule) portsID) portsID {
	open := isolated
	if t.iso == nil {
		_, denies := m.verdict(t.lists[baseline], match)
		open = m.ports.minus(allPorts, denies)
	}
	accepts, denies := m.verdict(t.lists[admin], match)
	return m.ports.union(accepts, m.ports.minus(open, denies))
}

// reaches works out what is open to the classes.
func (m *Matrix) reaches() {
	known := make(map[tiered]*reach)
	for i := range m.classes {
		c := &m.classes[i]
		for _, d := range policy.Directions() {
			t := tiered{c.isolations[d], c.tiers[d]}
			if t == (tiered{}) {
				continue
			}
			if known[t] == nil {
				known[t] = m.reach(t)
			}
			c.reach[d] = known[t]
		}
	}
	ids := make(map[*reach]int)
	for _, c := range m.classes {
		r := c.reach[policy.Ingress]
		n := number(ids, r, func() { m.inbound = append(m.inbound, r) })
		m.inboundOf = append(m.inboundOf, inbound{int32(n), c.family})
	}
}

// reach works out what is open to each class, and to each address that is no pod's.
func (m *Matrix) reach(t tiered) *reach {
	if t.lists == [2]*tierList{} {
		return &reach{t.iso.grants, t.iso.outside}
	}
	r := &reach{outside: make(map[family][]opening)}
	for c := range m.classes {
		isolated := noPorts
		if t.iso != nil {
			isolated = t.iso.grants[c]
		}
		r.grants = append(r.grants, m.open(t, isolated,
			func(l *tierList) func(*tierRule) portsID { return m.toClass(l, c) }))
	}
	for _, f := range families() {
		for _, first := range m.begins(t, f) {
			isolated := noPorts
			if t.iso != nil {
				isolated = at(t.iso.outside[f], first)
			}
			o := opening{Span{first, wholeFamily(f).Last}, m.open(t, isolated,
				func(l *tierList) func(*tierRule) portsID { return m.toAddress(l, first) })}
			n := len(r.outside[f])
			if n > 0 && r.outside[f][n-1].ports == o.ports {
				continue
			}
			if n > 0 {
				r.outside[f][n-1].Last = first.Prev()
			}
			r.outside[f] = append(r.outside[f], o)
		}
	}
	return r
}

// begins returns the addresses of a family from which on something else may be open, sorted; the first is the family's.
func (m *Matrix) begins(t tiered, f family) []netip.Addr {
	begins := []netip.Addr{wholeFamily(f).First}
	if t.iso != nil {
		for _, o := range t.iso.outside[f] {
			begins = append(begins, o.First)
		}
	}
	for _, l := range t.lists {
		if l == nil {
			continue
		}
		for _, p := range l.policies {
			for _, r := range p.rules[l.of.direction] {
				for _, b := range r.blocks {
					for _, s := range m.rules.blocks[b].in(f) {
						begins = append(begins, s.First)
						if after := s.Last.Next(); after.IsValid() && familyOf(after) == f {
							begins = append(begins, after)
						}
					}
				}
			}
		}
	}
	slices.SortFunc(begins, netip.Addr.Compare)
	return slices.Compact(begins)
}

// TieredBy returns the ClusterNetworkPolicies that have rules for pods of a workload in a direction, as "Admin: guard",
// in the order in which they are asked.
func (m *Matrix) TieredBy(d policy.Direction, workload int) []string {
	var names []string
	for tier, name := range tierNames() {
		for _, p := range m.rules.tiers[tier] {
			text := fmt.Sprintf("%s: %s", name, p.Name)
			if slices.ContainsFunc(m.members[workload], func(of member) bool {
				l := m.classes[of.class].tiers[d][tier]
				return l != nil && slices.ContainsFunc(l.policies, func(q tierPolicy) bool { return q.Name == p.Name })
			}) {
				names = append(names, text)
			}
		}
	}
	return names
}
