// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/policy"
)

// rules are the policies of a cluster, read: what is written several times is there once, by number.
type rules struct {
	policies  map[string][]*networkPolicy // by namespace, sorted by name
	selectors []selector
	blocks    []Networks
	names     map[string]bool // of ports, that any rule names

	tiers   [2][]tierPolicy // in the order in which they are asked
	tierIDs map[string]*tierList

	selectorIDs, blockIDs map[string]int
}

// networkPolicy is a policy.
type networkPolicy struct {
	name     types.NamespacedName
	source   *networkingv1.NetworkPolicy
	isolates [2]bool
	rules    [2][]rule
}

// rule is what a rule allows; one that is not valid allows nothing.
type rule struct {
	ref       policy.RuleRef
	fault     string
	anyPeer   bool
	selectors []int
	blocks    []int
	ports     Ports
	named     []policy.NamedPort // that are open too, where a pod has them; without Number
}

// selector matches pods of one namespace, or of those that namespaces matches.
type selector struct {
	namespace        string // "" with namespaces
	namespaces, pods labels.Selector
}

// readRules reads the policies of a cluster that are enforced.
func readRules(c *policy.Cluster) *rules {
	r := &rules{
		policies:    make(map[string][]*networkPolicy),
		names:       make(map[string]bool),
		tierIDs:     make(map[string]*tierList),
		selectorIDs: make(map[string]int), blockIDs: make(map[string]int),
	}
	r.readTiers(c)
	for _, np := range c.Policies {
		if c.Audited(np) {
			continue
		}
		r.policies[np.Namespace] = append(r.policies[np.Namespace], r.read(np))
	}
	for _, all := range r.policies {
		slices.SortFunc(all, func(a, b *networkPolicy) int { return cmp.Compare(a.name.Name, b.name.Name) })
	}
	return r
}

func (r *rules) read(np *networkingv1.NetworkPolicy) *networkPolicy {
	p := &networkPolicy{name: types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, source: np}
	for _, d := range policy.Directions() {
		p.isolates[d] = policy.Isolates(np, d)
		for _, text := range policy.Rules(np, d) {
			p.rules[d] = append(p.rules[d], r.readRule(np.Namespace, text))
		}
	}
	return p
}

func (r *rules) readRule(namespace string, text policy.Rule) rule {
	read := rule{ref: text.RuleRef, fault: text.Fault(), anyPeer: len(text.Peers) == 0}
	if read.fault != "" {
		return read
	}
	for _, peer := range text.Peers {
		if peer.IPBlock != nil {
			read.blocks = append(read.blocks, r.block(peer.IPBlock))
		} else {
			read.selectors = append(read.selectors, r.selector(namespace, peer))
		}
	}
	if len(text.Ports) == 0 {
		read.ports = everything()
	}
	for _, port := range text.Ports {
		proto := policy.ProtocolOf(port)
		switch {
		case port.Port == nil:
			read.ports = read.ports.union(Ports{ranges: []portRange{{proto, 0, 65535}}})
		case port.Port.Type == intstr.String:
			read.named = append(read.named, policy.NamedPort{Name: port.Port.StrVal, Proto: proto})
			r.names[port.Port.StrVal] = true
		default:
			first, last := port.Port.IntVal, port.Port.IntVal
			if port.EndPort != nil {
				last = *port.EndPort
			}
			read.ports = read.ports.union(Ports{ranges: []portRange{{proto, uint16(first), uint16(last)}}})
		}
	}
	return read
}

// block returns the number of a valid ipBlock.
func (r *rules) block(b *networkingv1.IPBlock) int {
	var holes []Span
	for _, text := range b.Except {
		holes = append(holes, spanOf(policy.Network(text)))
	}
	return r.networks(spanOf(policy.Network(b.CIDR)).without(union(holes...)))
}

// networks returns the number of addresses of one family.
func (r *rules) networks(networks Networks) int {
	return number(r.blockIDs, fmt.Sprint([]Span(networks)), func() { r.blocks = append(r.blocks, networks) })
}

// selector returns the number of a valid peer with selectors.
func (r *rules) selector(namespace string, p networkingv1.NetworkPolicyPeer) int {
	s := selector{namespace: namespace, pods: valid(p.PodSelector)}
	key := namespace + "/" + s.pods.String()
	if p.NamespaceSelector != nil {
		s.namespace, s.namespaces = "", valid(p.NamespaceSelector)
		key = s.namespaces.String() + "//" + s.pods.String()
	}
	return number(r.selectorIDs, key, func() { r.selectors = append(r.selectors, s) })
}

// valid returns a selector that is known to be valid; none selects everything.
func valid(text *metav1.LabelSelector) labels.Selector {
	if text == nil {
		return labels.Everything()
	}
	s, err := metav1.LabelSelectorAsSelector(text)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

// number returns the number of a key. For a new one, add is called to append to the list that the numbers count.
func number[K comparable](ids map[K]int, key K, add func()) int {
	id, known := ids[key]
	if !known {
		id = len(ids)
		ids[key] = id
		add()
	}
	return id
}

// open returns what a rule opens to or of a pod with those ports by name. A port has no name at an address that is no
// pod's.
func (r *rule) open(have []policy.NamedPort) Ports {
	all := r.ports
	for _, want := range r.named {
		for _, p := range have {
			if p.Name == want.Name && p.Proto == want.Proto {
				all = all.union(Ports{ranges: []portRange{{p.Proto, p.Number, p.Number}}})
			}
		}
	}
	return all
}

// portNames returns what of a pod's named ports rules name.
func (r *rules) portNames(p *policy.Pod) []policy.NamedPort {
	return slices.DeleteFunc(slices.Clone(p.Ports), func(port policy.NamedPort) bool { return !r.names[port.Name] })
}

// policyNames writes the names of policies as a key.
func policyNames(all []*networkPolicy) string {
	var b strings.Builder
	for _, p := range all {
		b.WriteString(p.name.String())
		b.WriteByte(' ')
	}
	return b.String()
}
