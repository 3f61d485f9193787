// SPDX-License-Identifier: Apache-2.0

package frame

import (
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

// Guarded says whether the guard is g, with all the pods in the maps that it asks for.
func (fr *Frame) Guarded(g policy.Guard) bool { return fr.listed == g.On() && fr.guard.Equal(g) }

// Regard brings the table one step nearer to a guard: first all pods, then the rules, and back in the other order, so
// that no known pod meets the rules. It returns whether the pods of the node are to be set anew, see [Frame.SetPod].
func (fr *Frame) Regard(g policy.Guard) (pods bool) {
	switch {
	case g.On() && !fr.listed:
		fr.listed = true
	case !fr.guard.Equal(g):
		fr.guard = g
		fr.setWay()
		return false
	case !g.On() && fr.listed:
		fr.listed = false
	default:
		return false
	}
	return true
}

// guardRules returns the rules behind a direction's dispatch. With most nodes they are one comparison.
func (fr *Frame) guardRules(d policy.Direction) []nft.Rule {
	var rules []nft.Rule
	for _, p := range fr.guard.Ranges {
		rules = append(rules, nft.R(nft.AddrIn{Side: PodSide(d), Prefix: p}, nft.GotoChain(unknownChain(d))))
	}
	for _, name := range fr.guard.Links {
		rules = append(rules, nft.R(nft.LinkName{Side: PodSide(d), Name: name}, nft.GotoChain(unknownChain(d))))
	}
	return rules
}

// setUnknown sets or deletes what the guard's rules lead to: what is no pod's after all passes, the rest is logged,
// counted and dropped. It is never rejected: a connection that a new pod begins too early is tried again by TCP, and
// succeeds then.
func (fr *Frame) setUnknown(d policy.Direction) {
	if !fr.guard.On() {
		fr.table.DeleteChain(unknownChain(d))
		for _, u := range UnknownSets() {
			fr.table.DeleteSet(u.Name)
		}
		return
	}
	c := &nft.Chain{Name: unknownChain(d), Comment: "this node's pod addresses that belong to no known pod"}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.R(statements...)) }
	add(nft.NeighbourDiscovery{}, accept())
	for _, kind := range noPods(d) {
		add(nft.AddrType{Side: PodSide(d), Kind: kind}, Allow(d))
	}
	c.Rules = slices.Concat(c.Rules, fr.countDenied(), fr.log(c.Name))
	for _, u := range UnknownSets() {
		if u.Direction == d {
			set := fr.table.Set(u.Name, u.Type, "packets of unknown pods that were dropped")
			fr.fillUnknown(set)
			add(nft.LookupIn(PodSide(d), set))
		}
	}
	add(nft.Verdict{Kind: nft.Drop})
	fr.table.SetChain(c)
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
func (fr *Frame) fillUnknown(set *nft.Set) {
	ranges := fr.guard.Ranges
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

// UnknownPod says whether a chain is the guard's, and in which direction.
func UnknownPod(chain string) (policy.Direction, bool) {
	for _, d := range policy.Directions() {
		if chain == unknownChain(d) {
			return d, true
		}
	}
	return 0, false
}
