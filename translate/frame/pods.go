// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// Way is how a direction of what a pod sends or gets is decided.
type Way struct {
	Chain   string    // of the isolation; "": there is none
	Audit   bool      // it only audits
	Shadow  string    // of the isolation that is asked after the tier AuditAdmin; "": there is none
	Tiers   [4]string // of the rules of the tiers for the pod; "": there are none
	Refused bool      // the kernel does not take the address into the maps that dispatch: all is denied
	Open    bool      // nor into the set of what is refused: nothing is
}

// decided says whether anything of policies decides.
func (w Way) decided() bool {
	return w.Chain != "" && !w.Audit || w.Tiers[Admin] != "" || w.Tiers[Baseline] != ""
}

// asked says whether anything of policies is asked, even if it only audits.
func (w Way) asked() bool { return w.Chain != "" || w.Shadow != "" || w.Tiers != [4]string{} }

// denies and audits say whether an isolation leads to the set that counts what is denied, or would be.
func (w Way) denies() bool { return w.Chain != "" && !w.Audit && !w.Refused }
func (w Way) audits() bool { return (w.Chain != "" && w.Audit || w.Shadow != "") && !w.Refused }

// SetPod sends what the pod of this node at an address sends and gets on its ways, by direction; text is the pod.
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
		case fr.listed && (!way.Refused || !way.decided()): // past the guard
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

// UnsetPod takes a local address out of the maps.
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

// count has what isolations deny to or from an address, or would deny, counted in the sets for that, if there are any.
func (fr *Frame) count(d policy.Direction, a netip.Addr, v nft.Value, way Way) {
	f := nft.FamilyOf(a)
	put(fr.table.FindSet(deniedSet(d, f)), a, v, way.denies())
	if fr.audits[d] > 0 {
		put(fr.table.FindSet(auditedSet(d, f)), a, v, way.audits())
	}
}

// put has an address in a set, or not.
func put(set *nft.Set, a netip.Addr, v nft.Value, in bool) { //nolint:revive // a fact
	if in {
		set.Want(nft.AddrKey(a), v)
	} else {
		set.Unwant(nft.AddrKey(a))
	}
}

// OfPod says whether a set is one of those that have a pod with an address of that family by its isolation in a
// direction.
func OfPod(set string, d policy.Direction, f nft.Family) bool {
	for _, t := range AllTiers() {
		if set == tierSet(t, d, f) || set == adminMap(t, d, f) {
			return true
		}
	}
	return set == podsMap(d, f) || set == deniedSet(d, f) || set == selfSet(f) ||
		set == auditedSet(d, f) || set == passMap(d, f) || set == shadowMap(d, f)
}

// refuse has all denied to or from an address that the kernel does not take into the maps which dispatch, but for what
// no policy can block. The set, and what looks it up, is there as long as there is such an address.
func (fr *Frame) refuse(d policy.Direction, a netip.Addr, text string) {
	name, typ := refusedSet(d, nft.FamilyOf(a)), nft.SetType{Family: nft.FamilyOf(a), Fields: nft.Addr}
	if fr.table.FindSet(name) == nil {
		fr.refused++
		fr.table.Set(name, typ, "pods of this node that the kernel does not take into "+podsMap(d, typ.Family))
		fr.table.SetChain(&nft.Chain{
			Name: refusedChain(d), Comment: "pods of this node whose isolations cannot be reached",
			Rules: []nft.Rule{nft.R(nft.JumpTo(alwaysChain)), nft.R(nft.Counter{}, nft.GotoChain(denyChain(d)))},
		})
		fr.setWay()
	}
	fr.table.FindSet(name).Want(nft.AddrKey(a), nft.Value{Comment: text})
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

// Closes says whether an operation is needed to deny all to or from a refused address.
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
