// SPDX-License-Identifier: Apache-2.0

package book

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// ClusterPolicies are the ClusterNetworkPolicies of a cluster, and the nodes as nodes peers see them.
type ClusterPolicies struct {
	all     map[string]*ClusterPolicy
	nodes   map[string]policy.NodePeer
	denying map[string]policy.ClusterRuleRef // see [ClusterPolicies.Denying]; nil: not computed
	ordered []*ClusterPolicy                 // in order of evaluation; nil if not computed
}

// NewClusterPolicies returns no policies.
func NewClusterPolicies() *ClusterPolicies {
	return &ClusterPolicies{all: make(map[string]*ClusterPolicy), nodes: make(map[string]policy.NodePeer)}
}

// Get returns the policy of that name, or nil.
func (b *ClusterPolicies) Get(name string) *ClusterPolicy { return b.all[name] }

// Len returns the number of policies.
func (b *ClusterPolicies) Len() int { return len(b.all) }

// All yields all policies.
func (b *ClusterPolicies) All() iter.Seq[*ClusterPolicy] { return maps.Values(b.all) }

// Names yields the names of all policies, in Name.
func (b *ClusterPolicies) Names() iter.Seq[types.NamespacedName] { return inNoNamespace(b.all) }

// Set adds p or replaces the policy of its name, and returns the old one, or nil, and the new one, which is the old one
// if p says the same.
func (b *ClusterPolicies) Set(p policy.ClusterPolicy) (old, next *ClusterPolicy) {
	old, next = b.all[p.Name], &ClusterPolicy{Name: p.Name, source: p}
	text, _ := json.Marshal([]any{p.Spec, p.Unread}) // of plain fields
	next.Hash = nft.Hash(string(text))
	if old != nil && old.Hash == next.Hash &&
		maps.Equal(policy.ModeOf(old.source.Annotations), policy.ModeOf(p.Annotations)) {
		old.source = p
		return old, old
	}
	next.compiled, next.Err = spec.CompileCluster(p)
	for d, rules := range next.compiled.Rules {
		next.depends[d] = slices.ContainsFunc(rules, func(r spec.ClusterRule) bool {
			return len(r.Named)+len(r.Nodes) > 0
		})
	}
	b.all[p.Name], b.denying, b.ordered = next, nil, nil
	return old, next
}

// Delete forgets the policy of that name and returns it, or nil.
func (b *ClusterPolicies) Delete(name string) *ClusterPolicy {
	old := b.all[name]
	delete(b.all, name)
	b.denying, b.ordered = nil, nil
	return old
}

// Nodes returns the nodes as nodes peers see them, by name; the caller must not change the map.
func (b *ClusterPolicies) Nodes() map[string]policy.NodePeer { return b.nodes }

// NodeNames yields the names of these nodes, in Name.
func (b *ClusterPolicies) NodeNames() iter.Seq[types.NamespacedName] { return inNoNamespace(b.nodes) }

// SetNode sets a node as nodes peers see it, and says whether that changed anything.
func (b *ClusterPolicies) SetNode(n policy.NodePeer) bool {
	old, known := b.nodes[n.Name]
	if known && maps.Equal(old.Labels, n.Labels) && slices.Equal(old.Addresses, n.Addresses) {
		return false
	}
	b.nodes[n.Name] = n
	return true
}

// DeleteNode forgets a node, and says whether it was known.
func (b *ClusterPolicies) DeleteNode(name string) bool {
	_, known := b.nodes[name]
	delete(b.nodes, name)
	return known
}

// Asked returns the policies with rules of a tier for pods in a direction, in order of evaluation: the enforced ones,
// or in an auditing tier all. in says whether a peer matches the pods.
func (b *ClusterPolicies) Asked(t frame.Tier, d policy.Direction, in func(spec.Peer) bool) []*ClusterPolicy {
	var all []*ClusterPolicy
	for _, p := range b.inOrder() {
		if p.tier() == t.Enforced() && (t.Audit() || !p.Audited()) && len(p.Rules(d)) > 0 && p.Selects(in) {
			all = append(all, p)
		}
	}
	return all
}

// inOrder returns all policies by priority and name.
func (b *ClusterPolicies) inOrder() []*ClusterPolicy {
	if b.ordered == nil {
		b.ordered = slices.SortedFunc(b.All(), func(a, b *ClusterPolicy) int {
			return cmp.Or(cmp.Compare(a.compiled.Priority, b.compiled.Priority), cmp.Compare(a.Name, b.Name))
		})
	}
	return b.ordered
}

// Auditing says what audited ClusterNetworkPolicies have for pods in a direction.
type Auditing struct {
	Of [2]bool // rules, by tier

	// Unaccepts says that an audited rule of tier Admin passes something on, beside an enforced one that accepts.
	Unaccepts bool
}

// Auditing returns what audited policies have for pods in a direction.
func (b *ClusterPolicies) Auditing(d policy.Direction, in func(spec.Peer) bool) Auditing {
	var a Auditing
	passes := false
	for _, p := range b.all {
		if !p.Audited() || len(p.Rules(d)) == 0 || !p.Selects(in) {
			continue
		}
		a.Of[p.tier()] = true
		passes = passes || p.tier() == frame.Admin && p.has(d, spec.Pass)
	}
	for _, p := range b.all {
		a.Unaccepts = a.Unaccepts || passes && !p.Audited() && p.tier() == frame.Admin &&
			p.has(d, spec.Accept) && p.Selects(in)
	}
	return a
}

// RuleOf returns the rule that a chain denies for, and false for a name that no such chain can have. If the rule is no
// longer known, the policy's name may be truncated.
func (b *ClusterPolicies) RuleOf(chain string) (policy.ClusterRuleRef, bool) {
	cut, ok := frame.ParseTierRule(chain)
	if !ok {
		return policy.ClusterRuleRef{}, false
	}
	for name, p := range b.all {
		r := frame.TierRule{Tier: cut.Tier, Direction: cut.Direction, Policy: name, Index: cut.Index}
		if !strings.HasPrefix(name, cut.Policy) || r.Chain() != chain {
			continue
		}
		for _, rule := range p.Rules(r.Direction) {
			if rule.Index == r.Index {
				return refTo(r, rule.Name), true
			}
		}
	}
	return refTo(cut, ""), true
}

// refTo names a rule as the API does.
func refTo(r frame.TierRule, name string) policy.ClusterRuleRef {
	return policy.ClusterRuleRef{
		Tier: v1alpha2.Tier(r.Tier.String()), Policy: r.Policy, Direction: r.Direction, Index: r.Index, Name: name,
	}
}

// Denying returns the enforced rules that deny something, by the names of their chains; the caller must not change the
// map. It is computed anew after policies have changed.
func (b *ClusterPolicies) Denying() map[string]policy.ClusterRuleRef {
	if b.denying != nil {
		return b.denying
	}
	b.denying = make(map[string]policy.ClusterRuleRef)
	for name, p := range b.all {
		for _, d := range policy.Directions() {
			for _, r := range p.Rules(d) {
				if p.Audited() || r.Action != spec.Deny {
					continue
				}
				rule := frame.TierRule{Tier: p.tier(), Direction: d, Policy: name, Index: r.Index}
				b.denying[rule.Chain()] = refTo(rule, r.Name)
			}
		}
	}
	return b.denying
}

// Rejections yields what does not compile in full.
func (b *ClusterPolicies) Rejections() iter.Seq[Trouble] {
	return func(yield func(Trouble) bool) {
		for name, p := range b.all {
			if p.Err != nil && !yield(Trouble{Rejected, []types.NamespacedName{{Name: name}}, reason(p.Err)}) {
				return
			}
		}
	}
}

// Ties returns the policies that share tier and priority with another: for each such group, the names in order of
// evaluation.
func (b *ClusterPolicies) Ties() [][]string {
	var c policy.Cluster
	b.AddTo(&c, nil)
	return c.Ties()
}

// AddTo adds to c the policies as given, and the nodes for which which is true; nil adds all nodes.
func (b *ClusterPolicies) AddTo(c *policy.Cluster, which func(policy.NodePeer) bool) {
	for _, p := range b.all {
		c.ClusterPolicies = append(c.ClusterPolicies, p.source)
	}
	for _, n := range b.nodes {
		if which == nil || which(n) {
			c.NodePeers = append(c.NodePeers, n)
		}
	}
}

// inNoNamespace yields the keys of m as names without a namespace.
func inNoNamespace[T any](m map[string]T) iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for name := range m {
			if !yield(types.NamespacedName{Name: name}) {
				return
			}
		}
	}
}
