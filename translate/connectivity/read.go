// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// tier is the number of a tier, in the order in which they are asked. NetworkPolicies are one.
type tier int

// The tiers.
const (
	admin tier = iota
	plain
	baseline
	tiers // how many there are
)

// rules are the policies of a cluster that are enforced, read: what is written several times is there once, by number.
type rules struct {
	tiers     [tiers][]*policyRules // in the order in which they are asked
	selectors []selector
	blocks    []Networks
	names     map[string]bool // of ports, that any rule names

	selectorIDs, blockIDs map[string]int
}

// policyRules is a NetworkPolicy or a ClusterNetworkPolicy.
type policyRules struct {
	name     types.NamespacedName // without a namespace, of a ClusterNetworkPolicy
	source   *networkingv1.NetworkPolicy
	cluster  policy.ClusterPolicy
	subjects []int   // selectors of its pods
	counts   [2]bool // it isolates its pods in that direction, or has rules for it
	rules    [2][]rule

	pods bitset // the classes of its pods
}

// rule is what a rule accepts, denies or passes; one of a NetworkPolicy accepts. One that is not valid and accepts does
// nothing. Of a ClusterNetworkPolicy's only those are there that match something.
type rule struct {
	ref        policy.RuleRef
	clusterRef policy.ClusterRuleRef
	action     v1alpha2.ClusterNetworkPolicyRuleAction
	fault      string
	anyPeer    bool
	selectors  []int
	blocks     []int
	ports      Ports
	named      []policy.NamedPort // that are open too, where a pod has them; without Number
}

// selector matches pods of one namespace, or of those that namespaces matches.
type selector struct {
	namespace        string // "" with namespaces
	namespaces, pods labels.Selector
}

// readRules reads the policies of a cluster that are enforced.
func readRules(c *policy.Cluster) *rules {
	r := &rules{names: make(map[string]bool), selectorIDs: make(map[string]int), blockIDs: make(map[string]int)}
	r.readTiers(c)
	for _, np := range c.Policies {
		if !c.Audited(np) {
			r.tiers[plain] = append(r.tiers[plain], r.read(np))
		}
	}
	slices.SortFunc(r.tiers[plain], func(a, b *policyRules) int { return compareNames(a.name, b.name) })
	return r
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func (r *rules) read(np *networkingv1.NetworkPolicy) *policyRules {
	p := &policyRules{name: types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, source: np}
	p.subjects = []int{r.selector(selector{namespace: np.Namespace, pods: valid(policy.AtLeast(&np.Spec.PodSelector))})}
	for _, d := range policy.Directions() {
		p.counts[d] = policy.Isolates(np, d)
		for _, text := range policy.Rules(np, d) {
			p.rules[d] = append(p.rules[d], r.readRule(np.Namespace, text))
		}
	}
	return p
}

func (r *rules) readRule(namespace string, text policy.Rule) rule {
	read := rule{ref: text.RuleRef, fault: text.Fault(), anyPeer: len(text.Peers) == 0,
		action: v1alpha2.ClusterNetworkPolicyRuleActionAccept}
	if read.fault != "" {
		return read
	}
	for _, peer := range text.Peers {
		switch {
		case peer.IPBlock != nil:
			read.blocks = append(read.blocks, r.block(peer.IPBlock))
		case peer.NamespaceSelector != nil:
			read.selectors = append(read.selectors,
				r.selector(selector{namespaces: valid(peer.NamespaceSelector), pods: valid(peer.PodSelector)}))
		default:
			read.selectors = append(read.selectors,
				r.selector(selector{namespace: namespace, pods: valid(peer.PodSelector)}))
		}
	}
	if len(text.Ports) == 0 {
		read.ports = everything()
	}
	for _, port := range text.Ports {
		proto := policy.ProtocolOf(port)
		switch {
		case port.Port == nil:
			read.open(proto, 0, 65535)
		case port.Port.Type == intstr.String:
			read.named = append(read.named, policy.NamedPort{Name: port.Port.StrVal, Proto: proto})
			r.names[port.Port.StrVal] = true
		case port.EndPort != nil:
			read.open(proto, port.Port.IntVal, *port.EndPort)
		default:
			read.open(proto, port.Port.IntVal, port.Port.IntVal)
		}
	}
	read.ports = read.ports.union(Ports{})
	return read
}

// open adds ports; they are to be merged.
func (r *rule) open(proto uint8, first, last int32) {
	r.ports.ranges = append(r.ports.ranges, portRange{proto, uint16(first), uint16(last)})
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
	return number(r.blockIDs, networks.key(), func() { r.blocks = append(r.blocks, networks) })
}

// selector returns the number of a selector.
func (r *rules) selector(s selector) int {
	key := s.namespace + "/" + s.pods.String()
	if s.namespaces != nil {
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

// portsFor returns what ports a rule is about, at a pod with those ports by name. A port has no name at an address that
// is no pod's.
func (r *rule) portsFor(have []policy.NamedPort) Ports {
	var named Ports
	for _, p := range have {
		if slices.Contains(r.named, policy.NamedPort{Name: p.Name, Proto: p.Proto}) {
			named.ranges = append(named.ranges, portRange{p.Proto, p.Number, p.Number})
		}
	}
	if named.Empty() {
		return r.ports
	}
	return r.ports.union(named)
}

// portNames returns what of a pod's named ports rules name.
func (r *rules) portNames(p *policy.Pod) []policy.NamedPort {
	return slices.DeleteFunc(slices.Clone(p.Ports), func(port policy.NamedPort) bool { return !r.names[port.Name] })
}

// String returns the name of a NetworkPolicy, or "Admin: guard".
func (p *policyRules) String() string {
	if p.source != nil {
		return p.name.String()
	}
	return fmt.Sprintf("%s: %s", p.cluster.Tier(), p.name.Name)
}
