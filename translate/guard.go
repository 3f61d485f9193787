// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// The guard drops what comes from or goes to an address that is for pods of this node, and that no pod is known to
// have: a pod that netpold has not heard of has no policies yet, and would be open. It needs no process, so it holds
// while netpold is down.
//
// While it is in force, the maps that dispatch have every pod of the node, isolated or not, so that the guard's own
// rules come after them and a known pod never meets one.

// UnknownPods says what becomes of addresses that no known pod has.
type UnknownPods uint8

// What the guard may be told.
const (
	AllowUnknownPods UnknownPods = iota // there is no guard
	DenyUnknownPods                     // there is, if it is known which addresses are for pods
	AutoUnknownPods                     // there is from when the container runtime tells of new pods in time
)

// guard is what a state knows for the guard, and how far its table is.
type guard struct {
	podCIDRs []netip.Prefix // of the node
	outside  int            // addresses of pods of the node that are in none of them
	reached  bool           // the container runtime has told of a pod

	listed  bool         // the maps that dispatch have the pods that no policy selects, too
	inForce policy.Guard // what the rules say
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
	if name != s.node.Value() {
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
	for _, ns := range s.namespaces {
		for _, id := range ns.identities {
			for a, p := range id.local {
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

// Guard returns the guard that there is to be and, where there is none, why.
func (s *State) Guard() (g policy.Guard, off string) {
	o, cidrs := s.options, s.guard.podCIDRs
	switch {
	case o.UnknownPods == AllowUnknownPods:
		return policy.Guard{}, "--unknown-pods=allow"
	case o.UnknownPods == AutoUnknownPods && !s.guard.reached:
		return policy.Guard{}, "the container runtime has not told of a pod yet"
	case len(cidrs) > 0 && s.guard.outside == 0:
		return policy.Guard{Ranges: cidrs}, ""
	case len(o.PodRanges) > 0:
		return policy.Guard{Ranges: o.PodRanges}, ""
	case len(o.PodLinks) > 0:
		return policy.Guard{Links: o.PodLinks}, ""
	case len(cidrs) > 0:
		return policy.Guard{}, fmt.Sprintf("%d addresses of pods of the node are not in its spec.podCIDRs, %s",
			s.guard.outside, policy.Guard{Ranges: cidrs})
	}
	return policy.Guard{}, "the Node has no spec.podCIDRs"
}

// policyGuard is Guard as a cluster has it.
func (s *State) policyGuard() *policy.Guard {
	g, _ := s.Guard()
	if !g.On() {
		return nil
	}
	g.Node = s.node.Value()
	return &g
}

// GuardUnsure says that there would be a guard if it was known which addresses are for pods of this node.
func (s *State) GuardUnsure() bool {
	g, _ := s.Guard()
	mode := s.options.UnknownPods
	return !g.On() && (mode == DenyUnknownPods || mode == AutoUnknownPods && s.guard.reached)
}

// regarding says whether the table has another guard than it is to have.
func (s *State) regarding() bool {
	g, _ := s.Guard()
	return s.guard.listed != g.On() || !s.guard.inForce.Equal(g)
}

// regard brings the table one step nearer to the guard that there is to be: first all pods, then the rules, and back in
// the other order, so that no known pod meets the rules. It returns whether there is another step.
func (s *State) regard() (more bool) {
	g, _ := s.Guard()
	switch {
	case g.On() && !s.guard.listed:
		s.list(true)
	case !s.guard.inForce.Equal(g):
		s.guard.inForce = g
		s.setWay()
	case !g.On() && s.guard.listed:
		s.list(false)
	default:
		return false
	}
	return s.regarding()
}

// list adds the pods that no policy selects to the maps that dispatch, or takes them out.
func (s *State) list(all bool) { //nolint:revive // all is a fact of the maps
	s.guard.listed = all
	s.eachLocal(s.setDispatch)
}

// guardRules returns the rules behind a direction's dispatch. With most nodes they are one comparison.
func (s *State) guardRules(d policy.Direction) []nft.Rule {
	var rules []nft.Rule
	for _, p := range s.guard.inForce.Ranges {
		rules = append(rules, nft.R(nft.AddrIn{Side: podSide(d), Prefix: p}, nft.GotoChain(unknownChain(d))))
	}
	for _, name := range s.guard.inForce.Links {
		rules = append(rules, nft.R(nft.LinkName{Side: podSide(d), Name: name}, nft.GotoChain(unknownChain(d))))
	}
	return rules
}

// setUnknown sets or deletes what the guard's rules lead to: what is no pod's after all passes, the rest is logged,
// counted and dropped. It is never rejected: a connection that a new pod begins too early is tried again by TCP, and
// succeeds then.
func (s *State) setUnknown(d policy.Direction) {
	if !s.guard.inForce.On() {
		s.table.DeleteChain(unknownChain(d))
		for _, u := range UnknownSets() {
			s.table.DeleteSet(u.Name)
		}
		return
	}
	c := &nft.Chain{Name: unknownChain(d), Comment: "addresses for pods of this node that no known pod has"}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.R(statements...)) }
	add(nft.NeighbourDiscovery{}, accept())
	for _, kind := range noPods(d) {
		add(nft.AddrType{Side: podSide(d), Kind: kind}, allow(d))
	}
	if s.options.LogGroup != 0 {
		add(nft.Limit{Rate: logRate, Burst: logBurst},
			nft.Log{Prefix: c.Name, Group: s.options.LogGroup, Snaplen: logSnaplen})
	}
	for _, u := range UnknownSets() {
		if u.Direction == d {
			set := s.table.Set(u.Name, u.Type, "packets of unknown pods that were dropped")
			s.fillUnknown(set)
			add(nft.LookupIn(podSide(d), set))
		}
	}
	add(nft.Verdict{Kind: nft.Drop})
	s.table.SetChain(c)
}

// noPods are what an address may be to the node that is no pod's, although it is in the range of pods: a bridge of pods
// has the first address of their range, from which the node speaks to itself, and which its pods speak to.
func noPods(d policy.Direction) []nft.AddrKind {
	if d == policy.Egress {
		return []nft.AddrKind{nft.Local}
	}
	return []nft.AddrKind{nft.Local, nft.Broadcast, nft.Multicast}
}

// fillUnknown makes a set count every packet that the guard drops.
func (s *State) fillUnknown(set *nft.Set) {
	ranges := s.guard.inForce.Ranges
	if ranges == nil {
		v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
		ranges = []netip.Prefix{netip.PrefixFrom(v4, 0), netip.PrefixFrom(v6, 0)}
	}
	want := make(map[nft.Key]bool)
	for _, p := range ranges {
		if nft.FamilyOf(p.Addr()) == set.Type.Family {
			want[nft.PairKey(p.Addr(), nft.LastAddr(p))] = true
		}
	}
	for _, e := range set.Elements() {
		if !want[e.Key] {
			set.Unwant(e.Key)
		}
	}
	for k := range want {
		set.Want(k, nft.Value{})
	}
}

// UnknownSets returns the sets that count what the guard drops. A table has them while it has a guard.
func UnknownSets() []DeniedSet {
	var sets []DeniedSet
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			typ := nft.SetType{Family: f, Fields: nft.AddrRange, Counter: true}
			sets = append(sets, DeniedSet{unknownChain(d) + "-" + f.String(), typ, d})
		}
	}
	return sets
}

// CountingSets returns all sets that count what is denied or dropped: those of isolated pods, and the guard's.
func CountingSets() []DeniedSet { return append(DeniedSets(), UnknownSets()...) }

// UnknownPod says whether a chain is the guard's, and in which direction.
func UnknownPod(chain string) (policy.Direction, bool) {
	for _, d := range policy.Directions() {
		if chain == unknownChain(d) {
			return d, true
		}
	}
	return 0, false
}
