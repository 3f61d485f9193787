// SPDX-License-Identifier: Apache-2.0

package folding

import (
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/connectivity/reading"
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

// Act is what a rule does with ports.
type Act struct {
	Action v1alpha2.ClusterNetworkPolicyRuleAction // "" for the end of a tier of ClusterNetworkPolicies
	Ports  sets.PortsID
}

// The initial states, for pods that no NetworkPolicy isolates and for others; and the end of the tier of
// NetworkPolicies.
const (
	NotIsolated StateID = iota
	Isolated

	endOfPlain v1alpha2.ClusterNetworkPolicyRuleAction = "plain"
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
	s.asked = f.Minus(s.asked, matched)
	switch a.Action {
	case v1alpha2.ClusterNetworkPolicyRuleActionAccept:
		s.open, s.left = f.Union(s.open, matched), f.Minus(s.left, matched)
	case v1alpha2.ClusterNetworkPolicyRuleActionDeny:
		s.left = f.Minus(s.left, matched)
	case endOfPlain:
		if s.closed {
			s.left = sets.NoPorts
		}
		s.asked = s.left
	case "":
		s.asked = s.left
	}
	to = f.stateOf(s)
	f.steps[key] = to
	return to
}

// Ends returns the act for the end of a tier.
func Ends(t reading.Tier) Act {
	if t == reading.Plain {
		return Act{endOfPlain, sets.NoPorts}
	}
	return Act{"", sets.NoPorts}
}

// Apply applies a rule to the states of some numbers.
func (f *Folding) Apply(a Act, to sets.Bitset, states []StateID) {
	last, next := StateID(-1), StateID(-1)
	for i := range to.Each {
		if states[i] != last {
			last = states[i]
			next = f.Next(last, a)
		}
		states[i] = next
	}
}
