// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// Reasons is why workloads may talk or not, in a form that a page can hold: what several pairs have in common is there
// once.
type Reasons struct {
	Classes []ReasonClass `json:"classes"`
	Members [][]int       `json:"members"` // the classes of each workload
	Sides   []SideReasons `json:"sides"`
	Said    []Said        `json:"said"`
	Rules   []RuleText    `json:"rules"`
}

// ReasonClass is pods that all policies treat alike.
type ReasonClass struct {
	Family uint8  `json:"family"` // 4 or 6, 0 of pods without an address
	Sides  [2]int `json:"sides"`  // for egress and ingress, in Sides; -1 if it was not asked about
}

// SideReasons is what the policies at one end of a connection say of its other end.
type SideReasons struct {
	Peers    []int   `json:"peers"`    // of each class, its number in Says; -1 if it was not asked about
	Networks []int   `json:"networks"` // of each network that was asked about, likewise
	Says     [][]int `json:"says"`     // numbers of Said, in the order in which the tiers are asked
}

// Said is one step on the way to the answer, in the words of [policy.Cluster.Describe].
type Said struct {
	Text    string  `json:"text"`
	Verdict Verdict `json:"verdict"`
	Rule    int     `json:"rule"` // its number in Rules, or -1
	Ports   Ports   `json:"-"`    // about which it decides
}

// Verdict is what a step decides: "" is nothing.
type Verdict string

// The verdicts.
const (
	Open   Verdict = "open"
	Closed Verdict = "closed"
)

// RuleText is a rule as it is written.
type RuleText struct {
	Name string `json:"name"`
	Text any    `json:"text"`
}

// Reasons returns why some workloads may talk or not, to each other and to networks. Of other workloads it knows
// nothing.
func (m *Matrix) Reasons(workloads []int, networks []Networks) *Reasons {
	r := &reasoning{Matrix: m, networks: networks, asked: make(map[int]bool), said: make(map[string]int),
		rules: make(map[string]int)}
	r.Members = make([][]int, len(m.Workloads))
	for _, w := range workloads {
		for _, member := range m.members[w] {
			r.Members[w] = append(r.Members[w], member.class)
			r.asked[member.class] = true
		}
	}
	sides := [2]map[tiered]int{make(map[tiered]int), make(map[tiered]int)}
	for n, c := range m.classes {
		class := ReasonClass{uint8(c.family), [2]int{-1, -1}}
		for _, d := range policy.Directions() {
			t := tiered{c.isolations[d], c.tiers[d]}
			if !r.asked[n] {
				continue
			}
			if _, known := sides[d][t]; !known {
				sides[d][t] = len(r.Sides)
				r.Sides = append(r.Sides, r.side(d, t))
			}
			class.Sides[d] = sides[d][t]
		}
		r.Classes = append(r.Classes, class)
	}
	return &r.Reasons
}

// reasoning is Reasons in the making.
type reasoning struct {
	*Matrix
	Reasons

	asked       map[int]bool // the classes
	networks    []Networks
	said, rules map[string]int // numbers
}

// side returns what the policies of one end say of each class and network.
func (r *reasoning) side(d policy.Direction, t tiered) (s SideReasons) {
	ids := make(map[string]int)
	answer := func(p peer) int {
		said := r.answer(d, t, p)
		return number(ids, fmt.Sprint(said), func() { s.Says = append(s.Says, said) })
	}
	for c := range r.classes {
		say := -1
		if r.asked[c] {
			say = answer(peer{c, nil, []match{func(l *tierList) func(*tierRule) portsID { return r.toClass(l, c) }}})
		}
		s.Peers = append(s.Peers, say)
	}
	for _, n := range r.networks {
		s.Networks = append(s.Networks, answer(peer{-1, n, r.samples(t, n)}))
	}
	return s
}

// peer is the other end: a class, or -1 and a network. A tier is asked about each part that its rules may tell apart.
type peer struct {
	class   int
	network Networks
	parts   []match
}

// match is what the rules of a list would match.
type match = func(*tierList) func(*tierRule) portsID

// samples returns an address of each part of a network that the lists may tell apart.
func (r *reasoning) samples(t tiered, n Networks) []match {
	var parts []match
	for _, f := range families() {
		begins := r.begins(t, f)
		for _, s := range n {
			if familyOf(s.First) == f {
				begins = append(begins, s.First)
			}
		}
		for _, s := range cutAt(f, begins) {
			if n.Contains(s.First) {
				parts = append(parts, func(l *tierList) func(*tierRule) portsID { return r.toAddress(l, s.First) })
			}
		}
	}
	return parts
}

// answer returns the numbers of what is said of a peer.
func (r *reasoning) answer(d policy.Direction, t tiered, p peer) []int {
	said, rest := r.tier(t.lists[admin], allPorts, p)
	switch {
	case rest == noPorts:
		return said
	case t.iso != nil:
		return append(said, r.isolated(t.iso, rest, p)...)
	}
	base, open := r.tier(t.lists[baseline], rest, p)
	if base != nil {
		said = append(append(said, r.say(Said{Text: "no NetworkPolicy isolates it", Rule: -1})), base...)
	}
	if open == noPorts {
		return said
	}
	text := "open: no policy isolates it for " + d.String()
	return append(said, r.say(Said{text, Open, -1, r.ports.sets[open]}))
}

// tier returns what a list says of some ports of a peer, and the ports of which it decides nothing.
func (r *reasoning) tier(l *tierList, asked portsID, p peer) (said []int, rest portsID) {
	if l == nil {
		return nil, asked
	}
	matched := make(map[*tierRule]portsID)
	for _, part := range p.parts {
		left := asked
		for rule, ports := range r.matched(l, part(l)) {
			matched[rule] = r.ports.union(matched[rule], r.ports.intersect(asked, ports))
			if rule.action != v1alpha2.ClusterNetworkPolicyRuleActionPass {
				left = r.ports.minus(left, ports)
			}
		}
		rest = r.ports.union(rest, left)
	}
	for _, of := range l.policies {
		for i := range of.rules[l.of.direction] {
			rule := &of.rules[l.of.direction][i]
			if matched[rule] == noPorts {
				continue
			}
			text, verdict := rule.does()
			said = append(said, r.say(Said{text, verdict, r.clusterRule(&of, rule.ref), r.ports.sets[matched[rule]]}))
		}
	}
	return said, rest
}

// isolated returns what the policies of an isolation say of some ports of a peer.
func (r *reasoning) isolated(iso *isolation, asked portsID, p peer) []int {
	var names []string
	for _, np := range iso.policies {
		names = append(names, np.name.String())
	}
	said := []int{r.say(Said{Text: "isolated by " + strings.Join(names, ", "), Rule: -1})}
	opened := r.openedOutside(iso, p.network)
	if p.class >= 0 {
		opened = r.opened(iso, p.class)
	}
	for _, o := range opened {
		if o.Ports = o.Ports.intersect(r.ports.sets[asked]); !o.Ports.Empty() {
			said = append(said, r.say(Said{"allowed by " + o.Rule.String(), Open, r.rule(iso, o.Rule), o.Ports}))
		}
	}
	if len(said) > 1 {
		return said
	}
	denied := Said{Text: "denied: no rule allows it", Verdict: Closed, Rule: -1}
	if asked != allPorts {
		denied.Text = "denied: no rule allows the rest"
	}
	said = append(said, r.say(denied))
	rule, lacks := r.nearest(iso, p.class)
	if len(opened) > 0 {
		rule, lacks = opened[0].Rule, "tier Admin has decided about all that it allows"
	}
	if lacks == "" {
		return said
	}
	return append(said, r.say(Said{Text: fmt.Sprintf("nearest: %s: %s", rule, lacks), Rule: r.rule(iso, rule)}))
}

// say returns the number of a step.
func (r *reasoning) say(s Said) int {
	if !s.Ports.Empty() && (s.Rule >= 0 || !s.Ports.All()) {
		s.Text += ": " + s.Ports.String()
	}
	return number(r.said, s.Text, func() { r.Said = append(r.Said, s) })
}

// rule returns the number of a rule of an isolation.
func (r *reasoning) rule(iso *isolation, ref policy.RuleRef) int {
	i := slices.IndexFunc(iso.policies, func(p *networkPolicy) bool { return p.name == ref.Policy })
	spec := &iso.policies[i].source.Spec
	if ref.Direction == policy.Egress {
		return r.text(ref.String(), &spec.Egress[ref.Index])
	}
	return r.text(ref.String(), &spec.Ingress[ref.Index])
}

// clusterRule returns the number of a rule of a ClusterNetworkPolicy.
func (r *reasoning) clusterRule(p *tierPolicy, ref policy.ClusterRuleRef) int {
	if ref.Direction == policy.Egress {
		return r.text(ref.String(), &p.Spec.Egress[ref.Index])
	}
	return r.text(ref.String(), &p.Spec.Ingress[ref.Index])
}

func (r *reasoning) text(name string, text any) int {
	return number(r.rules, name, func() { r.Rules = append(r.Rules, RuleText{name, text}) })
}

// does returns what a rule does to what it matches, in words.
func (r *tierRule) does() (text string, v Verdict) {
	switch {
	case r.fault != "":
		return r.ref.String() + " is not valid and denies everything: " + r.fault, Closed
	case r.action == v1alpha2.ClusterNetworkPolicyRuleActionAccept:
		return r.ref.String() + " accepts", Open
	case r.action == v1alpha2.ClusterNetworkPolicyRuleActionPass:
		return r.ref.String() + " passes", ""
	}
	return r.ref.String() + " denies", Closed
}

// nearest returns the rule that comes nearest to opening something to a class, -1 for an outside address, and what it
// lacks.
func (m *Matrix) nearest(iso *isolation, c int) (nearest policy.RuleRef, lacks string) {
	best := -1
	for _, p := range iso.policies {
		for i := range p.rules[iso.direction] {
			r := &p.rules[iso.direction][i]
			rank, reason := 0, "its peers do not include this one"
			over := slices.ContainsFunc(iso.over, func(e policy.Excess) bool { return e.RuleRef == r.ref })
			included := func(s int) bool { return c >= 0 && has(m.selectorClasses[s], c) }
			switch {
			case r.fault != "":
				rank, reason = 2, "it is not valid and allows nothing: "+r.fault
			case over:
				rank, reason = 2, "it is over a limit and allows nothing"
			case r.anyPeer || slices.ContainsFunc(r.selectors, included):
				rank, reason = 3, "no port of the destination has the name that it allows"
			case slices.ContainsFunc(r.selectors, func(s int) bool { return m.looksInto(s, c) }):
				rank = 1
			}
			if rank > best {
				best, nearest, lacks = rank, r.ref, reason
			}
		}
	}
	return nearest, lacks
}

// looksInto says whether a selector is about pods of the namespace of a class.
func (m *Matrix) looksInto(s, c int) bool {
	if c < 0 || m.classes[c].sample == nil {
		return false
	}
	namespace, of := m.classes[c].sample.pod.Namespace, m.rules.selectors[s]
	if of.namespaces == nil {
		return of.namespace == namespace
	}
	set, known := m.cluster.Namespaces[namespace]
	return known && of.namespaces.Matches(labels.Set(set))
}
