// SPDX-License-Identifier: Apache-2.0

package folding

import (
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/sets"
)

// Folding computes what is open after applying rules in order. Each step is computed once.
type Folding struct {
	*sets.PortTable
	states []state
	Opens  []sets.PortsID // of each state, at the end
	ids    map[state]StateID
	steps  map[step]StateID
}

// state is what the rules so far have decided.
type state struct {
	asked  sets.PortsID // what the next rule of the tier may decide
	left   sets.PortsID // what the next tier may decide
	open   sets.PortsID
	closed bool // a NetworkPolicy isolates the pods: nothing is left after its tier
}

// StateID identifies a state in a [Folding].
type StateID int32

// step is what a rule does to a state.
type step struct {
	from StateID
	Act
}

// Act is what a rule of a ClusterNetworkPolicy does with ports, or the end of their tier, or all NetworkPolicies.
type Act struct {
	kind  kind
	Ports sets.PortsID
}

// kind is what an act does. As a number, it makes the steps that are known quick to find.
type kind int32

const (
	accept kind = iota
	deny
	pass
	end
	plain // all NetworkPolicies together
)

// Rule returns the act of a rule of a ClusterNetworkPolicy.
func Rule(a v1alpha2.ClusterNetworkPolicyRuleAction, p sets.PortsID) Act {
	switch a {
	case v1alpha2.ClusterNetworkPolicyRuleActionAccept:
		return Act{accept, p}
	case v1alpha2.ClusterNetworkPolicyRuleActionPass:
		return Act{pass, p}
	}
	return Act{deny, p}
}

// End returns the act for the end of a tier of ClusterNetworkPolicies.
func End() Act { return Act{end, sets.NoPorts} }

// Plain returns the act for the tier of NetworkPolicies, which accept some ports.
func Plain(accepted sets.PortsID) Act { return Act{plain, accepted} }

// The initial states, for pods that no NetworkPolicy isolates and for others.
const (
	NotIsolated StateID = iota
	Isolated
)

// New returns a folding with only the initial states.
func New() *Folding {
	f := &Folding{PortTable: sets.NewPortTable(), ids: make(map[state]StateID), steps: make(map[step]StateID)}
	for _, closed := range []bool{false, true} {
		f.stateOf(state{sets.AllPorts, sets.AllPorts, sets.NoPorts, closed})
	}
	return f
}

func (f *Folding) stateOf(s state) StateID {
	return sets.Number(f.ids, s, func() {
		open := s.open
		if !s.closed {
			open = f.Union(open, s.left)
		}
		f.states, f.Opens = append(f.states, s), append(f.Opens, open)
	})
}

// Next returns the state after a rule that matches, or after a tier.
func (f *Folding) Next(from StateID, a Act) StateID {
	key := step{from, a}
	to, known := f.steps[key]
	if known {
		return to
	}
	s := f.states[from]
	matched := f.Intersect(s.asked, a.Ports)
	if a.kind != plain {
		s.asked = f.Minus(s.asked, matched)
	}
	switch a.kind {
	case accept:
		s.open, s.left = f.Union(s.open, matched), f.Minus(s.left, matched)
	case deny:
		s.left = f.Minus(s.left, matched)
	case plain:
		if s.open = f.Union(s.open, matched); s.closed {
			s.left = sets.NoPorts
		}
		s.asked = s.left
	case end:
		s.asked = s.left
	}
	if f.Spend(3) {
		to = f.stateOf(s)
		f.steps[key] = to
	}
	return to
}

// Apply applies a rule, or the end of a tier, to the states of some numbers.
func (f *Folding) Apply(a Act, to sets.Bitset, states []StateID) {
	sets.Replace(states, to, func(from StateID) StateID { return f.Next(from, a) })
}
