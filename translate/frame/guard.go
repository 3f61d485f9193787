// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// The guard drops packets from or to this node's pod addresses that belong to no known pod: a pod that netpold has not
// heard of has no policies yet, and would be open. It needs no process, so it holds while netpold is down.
//
// While it is in force, the dispatch maps have every pod of the node, isolated or not. The guard's own rules come after
// them, so a known pod never meets one.

// Guarded says whether the guard is g, and the maps have all the pods that it needs.
func (fr *Frame) Guarded(g policy.Guard) bool { return fr.listed == g.On() && fr.guard.Equal(g) }

// StepGuard brings the table one step closer to a guard: first all pods, then the rules, and the reverse to remove it,
// so that no known pod meets the rules. It returns whether the pods of the node must be set again, see [Frame.SetPod].
func (fr *Frame) StepGuard(g policy.Guard) (pods bool) {
	switch {
	case g.On() && !fr.listed:
		fr.listed = true
		return true
	case !fr.guard.Equal(g):
		fr.guard = g
		fr.write()
		return false
	}
	pods = fr.listed != g.On()
	fr.listed = g.On()
	return pods
}

// guardRules returns the guard's rules after a direction's dispatch: on most nodes, one comparison.
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

// unknown makes what the guard's rules lead to: addresses that are not pods' after all pass, the rest is logged,
// counted and dropped. It is never rejected: TCP retries a connection that a new pod begins too early, and then
// succeeds.
func (fr *Frame) unknown(d policy.Direction) {
	if !fr.guard.On() {
		return
	}
	rules := []nft.Rule{nft.R(nft.NeighbourDiscovery{}, accept())}
	for _, kind := range noPods(d) {
		rules = append(rules, nft.R(nft.AddrType{Side: PodSide(d), Kind: kind}, Allow(d)))
	}
	rules = slices.Concat(rules, fr.countDenied(), fr.log(unknownChain(d)))
	for _, u := range UnknownSets() {
		if u.Direction == d {
			set := fr.set(u.Name, u.Type, "packets of unknown pods that were dropped")
			fr.fillUnknown(set)
			rules = append(rules, nft.R(nft.LookupIn(PodSide(d), set)))
		}
	}
	fr.chain(unknownChain(d), "this node's pod addresses that belong to no known pod",
		append(rules, nft.R(nft.Verdict{Kind: nft.Drop}))...)
}

// noPods are the types of addresses that are not pods' although they are in the pod range: the pods' bridge has its
// first address, which the node uses as a source and pods as a destination.
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
