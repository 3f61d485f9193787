// SPDX-License-Identifier: Apache-2.0

package reading

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

	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Tier is the number of a tier, in order of evaluation. NetworkPolicies are one.
type Tier int

// The tiers.
const (
	Admin Tier = iota
	Plain
	Baseline
	Tiers // the number of tiers
)

// Rules are the enforced policies of a cluster; repeated parts are there once, and referred to by number.
type Rules struct {
	Tiers     [Tiers][]*PolicyRules // in order of evaluation
	Selectors []selector
	Blocks    []sets.Networks
	names     map[string]bool // port names in any rule

	selectorIDs, blockIDs map[string]int
}

// PolicyRules is a NetworkPolicy or a ClusterNetworkPolicy.
type PolicyRules struct {
	Name     types.NamespacedName // a ClusterNetworkPolicy's has no namespace
	Source   *networkingv1.NetworkPolicy
	Cluster  policy.ClusterPolicy
	Subjects []int   // selectors of its pods
	Counts   [2]bool // whether it isolates its pods in that direction, or has rules for it
	Rules    [2][]Rule

	Pods sets.Bitset // the classes of its pods
}

// Rule is what a rule accepts, denies or passes; a NetworkPolicy's accepts. An invalid rule that accepts does nothing.
// Rules of ClusterNetworkPolicies that match nothing are left out.
type Rule struct {
	Ref        policy.RuleRef
	ClusterRef policy.ClusterRuleRef
	Action     v1alpha2.ClusterNetworkPolicyRuleAction
	Fault      string
	AnyPeer    bool
	Selectors  []int
	Blocks     []int
	Ports      sets.Ports
	Named      []policy.NamedPort // also open on pods that have them; without Number
}

// selector matches pods of one namespace, or of those that namespaces matches.
type selector struct {
	Namespace        string // "" with namespaces
	Namespaces, pods labels.Selector
}

// New reads the enforced policies of a cluster.
func New(c *policy.Cluster) *Rules {
	r := &Rules{names: make(map[string]bool), selectorIDs: make(map[string]int), blockIDs: make(map[string]int)}
	r.readTiers(c)
	for _, np := range c.Policies {
		if !c.Audited(np) {
			r.Tiers[Plain] = append(r.Tiers[Plain], r.read(np))
		}
	}
	slices.SortFunc(r.Tiers[Plain], func(a, b *PolicyRules) int { return CompareNames(a.Name, b.Name) })
	return r
}

// CompareNames orders names by namespace, then name.
func CompareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func (r *Rules) read(np *networkingv1.NetworkPolicy) *PolicyRules {
	p := &PolicyRules{Name: types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, Source: np}
	p.Subjects = []int{r.selector(selector{Namespace: np.Namespace, pods: valid(policy.AtLeast(&np.Spec.PodSelector))})}
	for _, d := range policy.Directions() {
		p.Counts[d] = policy.Isolates(np, d)
		for _, text := range policy.Rules(np, d) {
			p.Rules[d] = append(p.Rules[d], r.readRule(np.Namespace, text))
		}
	}
	return p
}

func (r *Rules) readRule(namespace string, text policy.Rule) Rule {
	read := Rule{Ref: text.RuleRef, Fault: text.Fault(), AnyPeer: len(text.Peers) == 0,
		Action: v1alpha2.ClusterNetworkPolicyRuleActionAccept}
	if read.Fault != "" {
		return read
	}
	for _, peer := range text.Peers {
		switch {
		case peer.IPBlock != nil:
			read.Blocks = append(read.Blocks, r.block(peer.IPBlock))
		case peer.NamespaceSelector != nil:
			read.Selectors = append(read.Selectors,
				r.selector(selector{Namespaces: valid(peer.NamespaceSelector), pods: valid(peer.PodSelector)}))
		default:
			read.Selectors = append(read.Selectors,
				r.selector(selector{Namespace: namespace, pods: valid(peer.PodSelector)}))
		}
	}
	if len(text.Ports) == 0 {
		read.Ports = sets.Everything()
	}
	for _, port := range text.Ports {
		proto := policy.ProtocolOf(port)
		switch {
		case port.Port == nil:
			read.open(proto, 0, 65535)
		case port.Port.Type == intstr.String:
			read.Named = append(read.Named, policy.NamedPort{Name: port.Port.StrVal, Proto: proto})
			r.names[port.Port.StrVal] = true
		case port.EndPort != nil:
			read.open(proto, port.Port.IntVal, *port.EndPort)
		default:
			read.open(proto, port.Port.IntVal, port.Port.IntVal)
		}
	}
	read.Ports = read.Ports.Union(sets.Ports{})
	return read
}

// open adds ports, to be merged later.
func (r *Rule) open(proto uint8, first, last int32) {
	r.Ports.AppendRange(proto, uint16(first), uint16(last))
}

// block returns the number of a valid ipBlock.
func (r *Rules) block(b *networkingv1.IPBlock) int {
	var holes []sets.Span
	for _, text := range b.Except {
		holes = append(holes, sets.SpanOf(policy.Network(text)))
	}
	return r.networks(sets.SpanOf(policy.Network(b.CIDR)).Without(sets.Union(holes...)))
}

// networks returns the number of a set of addresses of one family.
func (r *Rules) networks(networks sets.Networks) int {
	return sets.Number(r.blockIDs, networks.Key(), func() { r.Blocks = append(r.Blocks, networks) })
}

// selector returns the number of a selector.
func (r *Rules) selector(s selector) int {
	key := s.Namespace + "/" + s.pods.String()
	if s.Namespaces != nil {
		key = s.Namespaces.String() + "//" + s.pods.String()
	}
	return sets.Number(r.selectorIDs, key, func() { r.Selectors = append(r.Selectors, s) })
}

// valid returns a selector that is known to be valid; nil selects everything.
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

// PortsFor returns the ports of a rule at a pod with these named ports. An address that no pod has has no named ports.
func (r *Rule) PortsFor(have []policy.NamedPort) sets.Ports {
	var named sets.Ports
	for _, p := range have {
		if slices.Contains(r.Named, policy.NamedPort{Name: p.Name, Proto: p.Proto}) {
			named.AppendRange(p.Proto, p.Number, p.Number)
		}
	}
	if named.Empty() {
		return r.Ports
	}
	return r.Ports.Union(named)
}

// portNames returns a pod's named ports that rules name.
func (r *Rules) portNames(p *policy.Pod) []policy.NamedPort {
	return slices.DeleteFunc(slices.Clone(p.Ports), func(port policy.NamedPort) bool { return !r.names[port.Name] })
}

// String returns the name of a NetworkPolicy, or "Admin: guard".
func (p *PolicyRules) String() string {
	if p.Source != nil {
		return p.Name.String()
	}
	return fmt.Sprintf("%s: %s", p.Cluster.Tier(), p.Name.Name)
}
