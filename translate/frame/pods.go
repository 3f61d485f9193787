// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// Way is how one direction of a pod's traffic is decided.
type Way struct {
	Chain   string    // of the isolation; "" if none
	Audit   bool      // it only audits
	Shadow  string    // of the isolation after tier AuditAdmin; "" if none
	Tiers   [4]string // of the pod's rules of each tier; "" if none
	Refused bool      // the kernel refuses the address in the dispatch maps: all is denied
	Open    bool      // and in the set of refused addresses: nothing is denied
}

// decided says whether any policy decides.
func (w Way) decided() bool {
	return w.Chain != "" && !w.Audit || w.Tiers[Admin] != "" || w.Tiers[Baseline] != ""
}

// asked says whether any policy is evaluated, even if only audited.
func (w Way) asked() bool { return w.Chain != "" || w.Shadow != "" || w.Tiers != [4]string{} }

// denies and audits say whether an isolation leads to the set that counts what is denied, or would be.
func (w Way) denies() bool { return w.Chain != "" && !w.Audit && !w.Refused }
func (w Way) audits() bool { return (w.Chain != "" && w.Audit || w.Shadow != "") && !w.Refused }

// SetPod sends the traffic of this node's pod at an address on its ways, by direction; text names the pod.
func (fr *Frame) SetPod(a netip.Addr, text string, ways [2]Way) {
	f := nft.FamilyOf(a)
	comment := nft.Value{Comment: text}
	if fr.options.Observe > 0 {
		observe.SetPod(fr.table, a)
	}
	counted := false
	for _, d := range policy.Directions() {
		dispatch := fr.table.FindSet(podsMap(d, f))
		way := ways[d]
		switch {
		case way.Chain != "" && !way.Refused:
			dispatch.Want(nft.AddrKey(a), nft.Value{Verdict: nft.GotoChain(way.Chain), Comment: text})
		case way.Tiers[Baseline] != "" && !way.Refused:
			dispatch.Want(nft.AddrKey(a), nft.Value{Verdict: nft.GotoChain(way.Tiers[Baseline]), Comment: text})
		case fr.listed && (!way.Refused || !way.decided()): // to pass the guard
			dispatch.Want(nft.AddrKey(a), nft.Value{Verdict: Allow(d), Comment: text})
		default:
			dispatch.Unwant(nft.AddrKey(a))
		}
		fr.count(d, a, comment, way)
		fr.setTiers(d, a, text, way)
		fr.setAudit(d, a, text, way)
		fr.setShadow(d, a, text, way)
		counted = counted || way.asked() && !way.Refused
		if way.decided() && way.Refused && !way.Open {
			fr.refuse(d, a, text)
		} else {
			fr.unrefuse(d, a)
		}
	}
	self := fr.table.FindSet(selfSet(f))
	if counted {
		self.Want(nft.PairKey(a, a), comment)
	} else {
		self.Unwant(nft.PairKey(a, a))
	}
}

// UnsetPod removes a local address from the maps.
func (fr *Frame) UnsetPod(a netip.Addr) {
	f := nft.FamilyOf(a)
	if fr.options.Observe > 0 {
		observe.UnsetPod(fr.table, a)
	}
	for _, d := range policy.Directions() {
		fr.table.FindSet(podsMap(d, f)).Unwant(nft.AddrKey(a))
		fr.count(d, a, nft.Value{}, Way{})
		fr.setTiers(d, a, "", Way{})
		fr.setAudit(d, a, "", Way{})
		fr.setShadow(d, a, "", Way{})
		fr.unrefuse(d, a)
	}
	fr.table.FindSet(selfSet(f)).Unwant(nft.PairKey(a, a))
}

// count makes the sets count what isolations deny, or would deny, to or from an address.
func (fr *Frame) count(d policy.Direction, a netip.Addr, v nft.Value, way Way) {
	f := nft.FamilyOf(a)
	put(fr.table.FindSet(deniedSet(d, f)), a, v, way.denies())
	if fr.audits[d] > 0 {
		put(fr.table.FindSet(auditedSet(d, f)), a, v, way.audits())
	}
}

// put adds an address to a set, or removes it.
func put(set *nft.Set, a netip.Addr, v nft.Value, in bool) { //nolint:revive // a fact
	if in {
		set.Want(nft.AddrKey(a), v)
	} else {
		set.Unwant(nft.AddrKey(a))
	}
}

// OfPod says whether a set is one that has isolated pods of a direction, by addresses of a family.
func OfPod(set string, d policy.Direction, f nft.Family) bool {
	for _, t := range AllTiers() {
		if set == tierSet(t, d, f) || set == adminMap(t, d, f) {
			return true
		}
	}
	return set == podsMap(d, f) || set == deniedSet(d, f) || set == selfSet(f) ||
		set == auditedSet(d, f) || set == passMap(d, f) || set == shadowMap(d, f)
}

// refuse denies everything to or from an address that the kernel refuses in the dispatch maps, except what no policy
// can block. The set, and what looks it up, exist as long as there is such an address.
func (fr *Frame) refuse(d policy.Direction, a netip.Addr, text string) {
	name, typ := refusedSet(d, nft.FamilyOf(a)), nft.SetType{Family: nft.FamilyOf(a), Fields: nft.Addr}
	if fr.table.FindSet(name) == nil {
		fr.refused++
		fr.table.Set(name, typ, "pods of this node that the kernel does not take into "+podsMap(d, typ.Family))
		fr.setRefused(d)
		fr.setWay()
	}
	fr.table.FindSet(name).Want(nft.AddrKey(a), nft.Value{Comment: text})
}

// setRefused makes the chain of refused addresses. What such a pod sends to itself by a Service is denied as well: a
// ClusterNetworkPolicy may deny that.
func (fr *Frame) setRefused(d policy.Direction) {
	deny := nft.GotoChain(denyChain(d))
	fr.table.SetChain(&nft.Chain{
		Name: refusedChain(d), Comment: "pods of this node whose isolations cannot be reached",
		Rules: []nft.Rule{
			nft.R(nft.NeighbourDiscovery{}, accept()), nft.R(nft.CtDNAT{}, nft.Counter{}, deny),
			nft.R(nft.JumpTo(alwaysChain)), nft.R(nft.Counter{}, deny),
		},
	})
}

// unrefuse undoes refuse.
func (fr *Frame) unrefuse(d policy.Direction, a netip.Addr) {
	if fr.refused == 0 {
		return
	}
	set := fr.table.FindSet(refusedSet(d, nft.FamilyOf(a)))
	if set == nil {
		return
	}
	set.Unwant(nft.AddrKey(a))
	if set.Len() > 0 {
		return
	}
	fr.refused--
	fr.table.DeleteSet(set.Name)
	fr.setWay()
	for _, f := range nft.Families() {
		if fr.table.FindSet(refusedSet(d, f)) != nil {
			return
		}
	}
	fr.table.DeleteChain(refusedChain(d))
}

// Closes says whether an operation is needed to deny everything to or from a refused address.
func Closes(d policy.Direction, a netip.Addr, op nft.Op) bool {
	set := refusedSet(d, nft.FamilyOf(a))
	looksUp := func(statement nft.Statement) bool {
		l, ok := statement.(nft.Lookup)
		return ok && l.Set == set
	}
	switch op.Verb {
	case nft.AddSet:
		return op.Set.Name == set
	case nft.AddElements:
		one := func(e nft.Element) bool { return e.Key == nft.AddrKey(a) }
		return op.Set.Name == set && slices.ContainsFunc(op.Elements, one)
	case nft.AddChain:
		return op.Chain.Name == refusedChain(d)
	case nft.AddRule:
		return op.Chain.Name == refusedChain(d) || slices.ContainsFunc(op.Rule.Statements, looksUp)
	}
	return false
}
