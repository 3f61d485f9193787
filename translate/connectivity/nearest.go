// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/reading"
	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Reasons is why workloads may or may not talk, in a form that fits a page: what several pairs share is there once.
type Reasons struct {
	Classes []ReasonClass `json:"classes"`
	Members [][]int       `json:"members"` // the classes of each workload
	Sides   []SideReasons `json:"sides"`
	Said    []Said        `json:"said"`
	Rules   []RuleText    `json:"rules"`
}

// ReasonClass is a set of pods that all policies treat alike.
type ReasonClass struct {
	Family uint8  `json:"family"` // 4 or 6; 0 for pods without an address
	Sides  [2]int `json:"sides"`  // indexes in Sides for egress and ingress; -1 if not asked for
}

// SideReasons is what the policies at one end of a connection say about the other end.
type SideReasons struct {
	Peers    []int   `json:"peers"`    // for each class, its index in Says; -1 if not asked for
	Networks []int   `json:"networks"` // for each requested network, likewise
	Says     [][]int `json:"says"`     // indexes of Said, in order of evaluation
}

// Said is one step towards the answer, in the words of [policy.Cluster.Describe].
type Said struct {
	Text    string  `json:"text"`
	Verdict Verdict `json:"verdict"`
	Rule    int     `json:"rule"` // index in Rules, or -1
	Ports   Ports   `json:"-"`    // that it decides
}

// Verdict is what a step decides; "" is nothing.
type Verdict string

// The verdicts.
const (
	Open   Verdict = "open"
	Closed Verdict = "closed"
)

// RuleText is a rule as written.
type RuleText struct {
	Name string `json:"name"`
	Text any    `json:"text"`
}

// Reasons returns why some workloads may or may not talk to each other and to networks. It leaves out other workloads.
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
	sides := [2]map[int]int{make(map[int]int), make(map[int]int)}
	for n, c := range m.classes {
		class := ReasonClass{uint8(c.family), [2]int{-1, -1}}
		for _, d := range policy.Directions() {
			if !r.asked[n] {
				continue
			}
			side := m.sides[d].Of[n]
			if _, known := sides[d][side]; !known {
				sides[d][side] = len(r.Sides)
				r.Sides = append(r.Sides, r.side(d, n))
			}
			class.Sides[d] = sides[d][side]
		}
		r.Classes = append(r.Classes, class)
	}
	return &r.Reasons
}

// reasoning builds Reasons.
type reasoning struct {
	*Matrix
	Reasons

	asked       map[int]bool // the classes
	networks    []Networks
	said, rules map[string]int // numbers
}

// side returns what the policies of a class say about each class and network.
func (r *reasoning) side(d policy.Direction, own int) (s SideReasons) {
	ids := make(map[string]int)
	answer := func(p peer) int {
		p.direction, p.own = d, own
		said := r.answer(p)
		return sets.Number(ids, fmt.Sprint(said), func() { s.Says = append(s.Says, said) })
	}
	for c := range r.classes {
		say := -1
		if r.asked[c] {
			say = answer(peer{class: c, parts: []match{r.toClass(d, own, c)}})
		}
		s.Peers = append(s.Peers, say)
	}
	for _, n := range r.networks {
		s.Networks = append(s.Networks, answer(peer{class: -1, network: n, parts: r.samples(d, own, n)}))
	}
	return s
}

// peer is the other end of a class in a direction: a class, or -1 and a network. A network has a part for each set of
// addresses that rules may distinguish.
type peer struct {
	direction policy.Direction
	own       int

	class   int
	network Networks
	parts   []match
}

// samples returns an address of each part of a network that rules may distinguish.
func (r *reasoning) samples(d policy.Direction, own int, n Networks) []match {
	var parts []match
	for _, f := range sets.Families() {
		begins := []netip.Addr{sets.WholeFamily(f).First}
		for _, s := range n.In(f) {
			begins = append(begins, s.First)
		}
		for _, t := range []reading.Tier{reading.Admin, reading.Baseline} {
			begins = append(begins, beginsOf(r.outsideRules(d, t, own, f))...)
		}
		for _, s := range sets.CutAt(f, begins) {
			if n.Contains(s.First) {
				parts = append(parts, r.toAny(d, own, Networks{{First: s.First, Last: s.First}}.Meets))
			}
		}
	}
	return parts
}

// answer returns the indexes of what is said about a peer.
func (r *reasoning) answer(p peer) []int {
	said, rest := r.tier(reading.Admin, sets.AllPorts, p)
	switch {
	case rest == sets.NoPorts:
		return said
	case r.Matrix.isolated[p.direction].Has(p.own):
		return append(said, r.isolated(rest, p)...)
	}
	base, open := r.tier(reading.Baseline, rest, p)
	if base != nil {
		said = append(append(said, r.say(Said{Text: "no NetworkPolicy isolates it", Rule: -1})), base...)
	}
	if open == sets.NoPorts {
		return said
	}
	text := "open: no policy isolates it for " + p.direction.String()
	return append(said, r.say(Said{text, Open, -1, r.fold.Sets[open]}))
}

// tier returns what a tier says about some ports of a peer, and the ports that it does not decide.
func (r *reasoning) tier(t reading.Tier, asked sets.PortsID, p peer) (said []int, rest sets.PortsID) {
	matched := make(map[*reading.Rule]sets.PortsID)
	for _, part := range p.parts {
		left := asked
		for rule, ports := range r.matched(p.direction, t, p.own, part) {
			matched[rule] = r.fold.Union(matched[rule], r.fold.Intersect(asked, ports))
			if rule.Action != v1alpha2.ClusterNetworkPolicyRuleActionPass {
				left = r.fold.Minus(left, ports)
			}
		}
		rest = r.fold.Union(rest, left)
	}
	for of := range r.policiesFor(p.direction, t, p.own) {
		for i := range of.Rules[p.direction] {
			rule := &of.Rules[p.direction][i]
			if matched[rule] == sets.NoPorts {
				continue
			}
			text, verdict := does(rule)
			number := r.clusterRule(of, rule.ClusterRef)
			said = append(said, r.say(Said{text, verdict, number, r.fold.Sets[matched[rule]]}))
		}
	}
	return said, rest
}

// isolated returns what NetworkPolicies say about some ports of a peer.
func (r *reasoning) isolated(asked sets.PortsID, p peer) []int {
	var names []string
	for np := range r.policiesFor(p.direction, reading.Plain, p.own) {
		names = append(names, np.Name.String())
	}
	said := []int{r.say(Said{Text: "isolated by " + strings.Join(names, ", "), Rule: -1})}
	match := r.toAny(p.direction, p.own, p.network.Meets)
	if p.class >= 0 {
		match = r.toClass(p.direction, p.own, p.class)
	}
	opened := r.opened(p.direction, p.own, match)
	for _, o := range opened {
		if o.Ports = o.Ports.Intersect(r.fold.Sets[asked]); !o.Ports.Empty() {
			said = append(said, r.say(Said{"allowed by " + o.Rule.String(), Open, r.rule(o.Rule), o.Ports}))
		}
	}
	if len(said) > 1 {
		return said
	}
	denied := Said{Text: "denied: no rule allows it", Verdict: Closed, Rule: -1}
	if asked != sets.AllPorts {
		denied.Text = "denied: no rule allows the rest"
	}
	said = append(said, r.say(denied))
	rule, lacks := r.nearest(p)
	if len(opened) > 0 {
		rule, lacks = opened[0].Rule, "tier Admin has already decided everything that it allows"
	}
	if lacks == "" {
		return said
	}
	return append(said, r.say(Said{Text: fmt.Sprintf("nearest: %s: %s", rule, lacks), Rule: r.rule(rule)}))
}

// say returns the index of a step, adding it if it is new.
func (r *reasoning) say(s Said) int {
	if !s.Ports.Empty() && (s.Rule >= 0 || !s.Ports.All()) {
		s.Text += ": " + s.Ports.String()
	}
	return sets.Number(r.said, s.Text, func() { r.Said = append(r.Said, s) })
}

// rule returns the index of a NetworkPolicy's rule.
func (r *reasoning) rule(ref policy.RuleRef) int {
	all := r.Matrix.rules.Tiers[reading.Plain]
	i := slices.IndexFunc(all, func(p *reading.PolicyRules) bool { return p.Name == ref.Policy })
	spec := &all[i].Source.Spec
	if ref.Direction == policy.Egress {
		return r.text(ref.String(), &spec.Egress[ref.Index])
	}
	return r.text(ref.String(), &spec.Ingress[ref.Index])
}

// clusterRule returns the index of a ClusterNetworkPolicy's rule.
func (r *reasoning) clusterRule(p *reading.PolicyRules, ref policy.ClusterRuleRef) int {
	if ref.Direction == policy.Egress {
		return r.text(ref.String(), &p.Cluster.Spec.Egress[ref.Index])
	}
	return r.text(ref.String(), &p.Cluster.Spec.Ingress[ref.Index])
}

func (r *reasoning) text(name string, text any) int {
	return sets.Number(r.rules, name, func() { r.Rules = append(r.Rules, RuleText{name, text}) })
}

// does returns what a rule does to what it matches, in words.
func does(r *reading.Rule) (text string, v Verdict) {
	switch {
	case r.Fault != "":
		return r.ClusterRef.String() + " is not valid and denies everything: " + r.Fault, Closed
	case r.Action == v1alpha2.ClusterNetworkPolicyRuleActionAccept:
		return r.ClusterRef.String() + " accepts", Open
	case r.Action == v1alpha2.ClusterNetworkPolicyRuleActionPass:
		return r.ClusterRef.String() + " passes", ""
	}
	return r.ClusterRef.String() + " denies", Closed
}

// nearest returns the rule that comes nearest to opening anything to a peer, and what it lacks.
func (m *Matrix) nearest(to peer) (nearest policy.RuleRef, lacks string) {
	best := -1
	for p := range m.policiesFor(to.direction, reading.Plain, to.own) {
		for _, r := range p.Rules[to.direction] {
			rank, reason := 0, "its peers do not include this one"
			over := m.over[to.direction][r.Ref]
			included := func(s int) bool { return to.class >= 0 && m.selectorClasses[s].Has(to.class) }
			switch {
			case r.Fault != "":
				rank, reason = 2, "it is not valid and allows nothing: "+r.Fault
			case over.Has(to.own):
				rank, reason = 2, "it is over a limit and allows nothing"
			case r.AnyPeer || slices.ContainsFunc(r.Selectors, included):
				rank, reason = 3, "no port of the destination has the name that it allows"
			case slices.ContainsFunc(r.Selectors, func(s int) bool { return m.looksInto(s, to.class) }):
				rank = 1
			}
			if rank > best {
				best, nearest, lacks = rank, r.Ref, reason
			}
		}
	}
	return nearest, lacks
}

// looksInto says whether a selector selects in the namespace of a class.
func (m *Matrix) looksInto(s, c int) bool {
	if c < 0 || m.classes[c].sample == nil {
		return false
	}
	namespace, of := m.classes[c].sample.Pod.Namespace, m.rules.Selectors[s]
	if of.Namespaces == nil {
		return of.Namespace == namespace
	}
	set, known := m.cluster.Namespaces[namespace]
	return known && of.Namespaces.Matches(labels.Set(set))
}
