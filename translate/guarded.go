// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"

	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/policy"
)

// SetNode sets the spec.podCIDRs of a node; none if it is gone. Those of other nodes do not count.
func (s *State) SetNode(name string, podCIDRs []netip.Prefix) {
	if name != s.index.Node() {
		return
	}
	s.guard.SetPodCIDRs(podCIDRs)
	s.eachLocal(func(a netip.Addr, _ *pod) { s.guard.Count(a, 1) })
}

// SetGateReached notes that the container runtime is connected: new pods wait for their policies, or did before a
// restart.
func (s *State) SetGateReached() { s.guard.SetReached() }

// eachLocal calls f for the addresses of the pods of this node.
func (s *State) eachLocal(f func(netip.Addr, *pod)) {
	for id := range s.index.Inhabited() {
		for a, p := range id.Local {
			f(a, p)
		}
	}
}

// Guard returns what is known about the guard.
func (s *State) Guard() guard.Guard { return s.guard }

// policyGuard returns the guard for a [policy.Cluster].
func (s *State) policyGuard() *policy.Guard {
	g := s.guard.Wanted()
	if !g.On() {
		return nil
	}
	g.Node = s.index.Node()
	return &g
}

// guardStale says whether the table's guard, or the set of pods whose flows it counts, is out of date.
func (s *State) guardStale() bool {
	return !s.frame.Guarded(s.guard.Wanted()) || !s.frame.ObservedBy(s.guard.PodCIDRs())
}

// stepGuard brings the table one step closer to the wanted guard, and returns whether there is another step.
func (s *State) stepGuard() (more bool) {
	g := s.guard.Wanted()
	s.frame.ObserveBy(s.guard.PodCIDRs())
	if s.frame.StepGuard(g) {
		s.eachLocal(s.setDispatch)
	}
	return !s.frame.Guarded(g)
}
