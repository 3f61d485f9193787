// SPDX-License-Identifier: Apache-2.0

package connectivity

import "sigs.k8s.io/network-policy-api/apis/v1alpha2"

// folding works out what is open when rules are asked in their order. Each step is worked out once.
type folding struct {
	*portTable
	states []state
	opens  []portsID // of each state, at the end
	ids    map[state]stateID
	steps  map[step]stateID
}

// state is what the rules that were asked have decided.
type state struct {
	asked  portsID // what the next rule of the tier may decide
	left   portsID // what the next tier may decide
	open   portsID
	closed bool // a NetworkPolicy isolates the pods: nothing is left after its tier
}

type stateID int32

// step is what a rule does to a state.
type step struct {
	from stateID
	act
}

// act is what a rule does with ports.
type act struct {
	action v1alpha2.ClusterNetworkPolicyRuleAction // "" is the end of a tier of ClusterNetworkPolicies
	ports  portsID
}

// The states before any rule was asked, of pods that no NetworkPolicy isolates and of others; and the end of the tier
// of NetworkPolicies.
const (
	notIsolated stateID = iota
	isolated

	endOfPlain v1alpha2.ClusterNetworkPolicyRuleAction = "plain"
)

func newFolding() *folding {
	f := &folding{portTable: newPortTable(), ids: make(map[state]stateID), steps: make(map[step]stateID)}
	for _, closed := range []bool{false, true} {
		f.stateOf(state{allPorts, allPorts, noPorts, closed})
	}
	return f
}

func (f *folding) stateOf(s state) stateID {
	id, known := f.ids[s]
	if !known {
		id = stateID(len(f.states))
		f.ids[s], f.states = id, append(f.states, s)
		open := s.open
		if !s.closed {
			open = f.union(open, s.left)
		}
		f.opens = append(f.opens, open)
	}
	return id
}

// next returns the state after a rule that matches, or after a tier.
func (f *folding) next(from stateID, a act) stateID {
	key := step{from, a}
	to, known := f.steps[key]
	if known {
		return to
	}
	s := f.states[from]
	matched := f.intersect(s.asked, a.ports)
	s.asked = f.minus(s.asked, matched)
	switch a.action {
	case v1alpha2.ClusterNetworkPolicyRuleActionAccept:
		s.open, s.left = f.union(s.open, matched), f.minus(s.left, matched)
	case v1alpha2.ClusterNetworkPolicyRuleActionDeny:
		s.left = f.minus(s.left, matched)
	case endOfPlain:
		if s.closed {
			s.left = noPorts
		}
		s.asked = s.left
	case "":
		s.asked = s.left
	}
	to = f.stateOf(s)
	f.steps[key] = to
	return to
}

// ends returns what the end of a tier does.
func (t tier) ends() act {
	if t == plain {
		return act{endOfPlain, noPorts}
	}
	return act{"", noPorts}
}

// apply asks a rule about some numbers.
func (f *folding) apply(a act, to bitset, states []stateID) {
	last, next := stateID(-1), stateID(-1)
	for i := range to.each {
		if states[i] != last {
			last = states[i]
			next = f.next(last, a)
		}
		states[i] = next
	}
}
