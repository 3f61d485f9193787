// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/translate/policy"
)

// UnknownPods says what becomes of addresses that no known pod has.
type UnknownPods uint8

// What the guard may be told.
const (
	AllowUnknownPods UnknownPods = iota // there is no guard
	DenyUnknownPods                     // there is, if it is known which addresses are for pods
	AutoUnknownPods                     // there is from when the container runtime tells of new pods in time
)

// guard is what a state knows for the guard of its table, see package frame.
type guard struct {
	podCIDRs []netip.Prefix // of the node
	outside  int            // addresses of pods of the node that are in none of them
	reached  bool           // the container runtime has told of a pod
}

// PodRanges returns prefixes in the form of a [policy.Guard].
func PodRanges(prefixes []netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range prefixes {
		all = append(all, p.Masked())
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var ranges []netip.Prefix
	for _, p := range all {
		if n := len(ranges); n == 0 || !ranges[n-1].Overlaps(p) { // what overlaps and comes later is inside
			ranges = append(ranges, p)
		}
	}
	return ranges
}

// SetNode sets the spec.podCIDRs of a node; none if it is gone. Those of other nodes do not count.
func (s *State) SetNode(name string, podCIDRs []netip.Prefix) {
	if name != s.index.Node() {
		return
	}
	s.guard.podCIDRs, s.guard.outside = PodRanges(podCIDRs), 0
	s.eachLocal(func(a netip.Addr, _ *pod) { s.countOutside(a, 1) })
}

// SetGateReached notes that connected to the container runtime; new pods wait for their policies, or did so before a
// restart.
func (s *State) SetGateReached() { s.guard.reached = true }

// eachLocal calls f for the addresses of the pods of this node.
func (s *State) eachLocal(f func(netip.Addr, *pod)) {
	for _, ns := range s.index.Namespaces() {
		for _, id := range ns.Identities {
			for a, p := range id.Local {
				f(a, p)
			}
		}
	}
}

// countOutside counts an address of a pod of this node that comes, by 1, or goes, by -1, if the node's pod CIDRs do not
// have it.
func (s *State) countOutside(a netip.Addr, by int) {
	if !slices.ContainsFunc(s.guard.podCIDRs, func(p netip.Prefix) bool { return p.Contains(a) }) {
		s.guard.outside += by
	}
}

// wanted returns the guard that there is to be, and where there is none, which reason [State.Guard] gives.
func (s *State) wanted() (policy.Guard, noGuard) {
	o := s.options
	switch {
	case o.UnknownPods == AllowUnknownPods:
		return policy.Guard{}, notAsked
	case o.UnknownPods == AutoUnknownPods && !s.guard.reached:
		return policy.Guard{}, notReached
	case len(s.podCIDRs()) > 0:
		return policy.Guard{Ranges: s.podCIDRs()}, 0
	case len(o.PodRanges) > 0:
		return policy.Guard{Ranges: o.PodRanges}, 0
	case len(o.PodLinks) > 0:
		return policy.Guard{Links: o.PodLinks}, 0
	}
	return policy.Guard{}, noRanges
}

// podCIDRs returns the node's pod CIDRs if all pods of it are in them; else they are somebody else's matter.
func (s *State) podCIDRs() []netip.Prefix {
	if s.guard.outside > 0 {
		return nil
	}
	return s.guard.podCIDRs
}

// noGuard is why there is no guard.
type noGuard uint8

const (
	notAsked noGuard = iota + 1
	notReached
	noRanges // it is not known which addresses are for pods of this node
)

// Guard returns the guard that there is to be and, where there is none, why.
func (s *State) Guard() (g policy.Guard, off string) {
	g, reason := s.wanted()
	switch {
	case reason == notAsked:
		off = "--unknown-pods=allow"
	case reason == notReached:
		off = "the container runtime has not told of a pod yet"
	case reason == noRanges && len(s.guard.podCIDRs) > 0:
		off = fmt.Sprintf("%d addresses of pods of the node are not in its spec.podCIDRs, %s",
			s.guard.outside, policy.Guard{Ranges: s.guard.podCIDRs})
	case reason == noRanges:
		off = "the Node has no spec.podCIDRs"
	}
	return g, off
}

// policyGuard is Guard as a cluster has it.
func (s *State) policyGuard() *policy.Guard {
	g, _ := s.wanted()
	if !g.On() {
		return nil
	}
	g.Node = s.index.Node()
	return &g
}

// GuardUnsure says that there would be a guard if it was known which addresses are for pods of this node.
func (s *State) GuardUnsure() bool {
	_, reason := s.wanted()
	return reason == noRanges
}

// regarding says whether the table has another guard than it is to have, or counts the flows of others.
func (s *State) regarding() bool {
	g, _ := s.wanted()
	return !s.frame.Guarded(g) || !s.frame.ObservedBy(s.podCIDRs())
}

// regard brings the table one step nearer to the guard that there is to be, and returns whether there is another step.
func (s *State) regard() (more bool) {
	g, _ := s.wanted()
	s.frame.ObserveBy(s.podCIDRs())
	if s.frame.Regard(g) {
		s.eachLocal(s.setDispatch)
	}
	return !s.frame.Guarded(g)
}
