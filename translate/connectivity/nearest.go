// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/policy"
)

// Reasons is why workloads may talk or not, in a form that a page can hold: what all pairs have in common is there
// once.
type Reasons struct {
	Classes    []ReasonClass     `json:"classes"`
	Members    [][]int           `json:"members"` // the classes of each workload
	Isolations []IsolationReason `json:"isolations"`
	Rules      []policy.RuleRef  `json:"-"`
}

// ReasonClass is pods that all policies treat alike.
type ReasonClass struct {
	Family     uint8  `json:"family"`     // 4 or 6, 0 of pods without an address
	Isolations [2]int `json:"isolations"` // for egress and ingress, in Isolations; -1 without any
}

// IsolationReason is what one set of policies says of its peers.
type IsolationReason struct {
	Policies []string      `json:"policies"`
	Peers    []int         `json:"peers"`    // of each class, the number of what is said of it in Says
	Networks []int         `json:"networks"` // of each network that was asked about, likewise
	Says     []PeersReason `json:"says"`
}

// PeersReason is which rules open something to a peer, or if none does, the one that comes nearest.
type PeersReason struct {
	Rules   []int    `json:"rules"` // numbers of Rules
	Ports   []string `json:"ports"` // that each of them opens
	Nearest int      `json:"nearest"`
	Lacks   string   `json:"lacks"` // what keeps the nearest from it; "" where there is no rule
}

// Reasons returns why some workloads may talk or not, to each other and to networks. Of other workloads it knows
// nothing.
func (m *Matrix) Reasons(workloads []int, networks []Networks) *Reasons {
	r := &Reasons{Members: make([][]int, len(m.Workloads))}
	asked := make(map[int]bool) // the classes
	for _, w := range workloads {
		for _, member := range m.members[w] {
			r.Members[w] = append(r.Members[w], member.class)
			asked[member.class] = true
		}
	}
	ids := make(map[*isolation]int)
	refs := make(map[policy.RuleRef]int)
	ref := func(rule policy.RuleRef) int {
		n, known := refs[rule]
		if !known {
			n = len(r.Rules)
			refs[rule], r.Rules = n, append(r.Rules, rule)
		}
		return n
	}
	for n, c := range m.classes {
		class := ReasonClass{Family: uint8(c.family), Isolations: [2]int{-1, -1}}
		for d, iso := range c.isolations {
			if iso == nil || !asked[n] {
				continue
			}
			if _, known := ids[iso]; !known {
				ids[iso] = len(r.Isolations)
				r.Isolations = append(r.Isolations, m.isolationReason(iso, question{asked, networks, ref}))
			}
			class.Isolations[d] = ids[iso]
		}
		r.Classes = append(r.Classes, class)
	}
	return r
}

// question is what isolations are asked about.
type question struct {
	classes  map[int]bool
	networks []Networks
	ref      func(policy.RuleRef) int // the number of a rule
}

// isolationReason is what one isolation says of each class and network.
func (m *Matrix) isolationReason(iso *isolation, q question) IsolationReason {
	reason := IsolationReason{Policies: []string{}}
	for _, p := range iso.policies {
		reason.Policies = append(reason.Policies, p.name.String())
	}
	ids := make(map[string]int)
	say := func(opened []Opened, nearest func() (policy.RuleRef, string)) int {
		says, key := PeersReason{Rules: []int{}, Ports: []string{}}, ""
		for _, o := range opened {
			says.Rules, says.Ports = append(says.Rules, q.ref(o.Rule)), append(says.Ports, o.Ports.String())
			key += o.Rule.String() + o.Ports.key()
		}
		if len(opened) == 0 {
			rule, lacks := nearest()
			if says.Lacks = lacks; lacks != "" {
				says.Nearest = q.ref(rule)
			}
			key = "-" + rule.String() + lacks
		}
		return number(ids, key, func() { reason.Says = append(reason.Says, says) })
	}
	for c := range m.classes {
		if !q.classes[c] {
			reason.Peers = append(reason.Peers, -1)
			continue
		}
		say := say(m.opened(iso, c), func() (policy.RuleRef, string) { return m.nearest(iso, c) })
		reason.Peers = append(reason.Peers, say)
	}
	for _, n := range q.networks {
		say := say(m.openedOutside(iso, n), func() (policy.RuleRef, string) { return m.nearest(iso, -1) })
		reason.Networks = append(reason.Networks, say)
	}
	return reason
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
