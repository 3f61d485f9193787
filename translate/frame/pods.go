// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"cmp"
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

// podSets are the sets and maps that have pods of the node, of one direction and family; nil what the table does not
// have.
type podSets struct {
	dispatch *nft.Set // to where the direction is decided
	refused  *nft.Set // those that the kernel refuses in the other ones
	pass     *nft.Set // on from auditing isolations, to tier Baseline
	shadow   *nft.Set // on from tier AuditAdmin
	denied   *nft.Set // counts what isolations deny, and audited what they would
	audited  *nft.Set

	admin      [4]*nft.Set // to the rules of a tier: Admin or AuditAdmin
	tierDenied [4]*nft.Set // counts what a tier denies, or would
}

// SetPod sends the traffic of this node's pod at an address on its ways, by direction; text names the pod.
func (fr *Frame) SetPod(a netip.Addr, text string, ways [2]Way) {
	if fr.options.Observe > 0 {
		observe.SetPod(fr.table, a)
	}
	asked := false
	for _, d := range policy.Directions() {
		way := ways[d]
		refused := way.Refused && way.decided()
		fr.setRefused(d, a, text, refused && !way.Open)
		if way.Refused {
			way = Way{}
		}
		asked = fr.pods[d][nft.FamilyOf(a)].set(a, text, way) || asked
		if way.next() == "" { // in the map only to pass the guard
			put(fr.pods[d][nft.FamilyOf(a)].dispatch, a, nft.Value{Verdict: Allow(d), Comment: text},
				fr.listed && !refused)
		}
	}
	self := fr.sets[selfSet(nft.FamilyOf(a))]
	if asked {
		self.Want(nft.PairKey(a, a), nft.Value{Comment: text})
	} else {
		self.Unwant(nft.PairKey(a, a))
	}
}

// UnsetPod removes a local address from the maps.
func (fr *Frame) UnsetPod(a netip.Addr) {
	fr.SetPod(a, "", [2]Way{})
	for _, d := range policy.Directions() {
		fr.pods[d][nft.FamilyOf(a)].dispatch.Unwant(nft.AddrKey(a))
	}
	if fr.options.Observe > 0 {
		observe.UnsetPod(fr.table, a)
	}
}

// next is the chain in which the way is decided after tier Admin; "" if there is none.
func (w Way) next() string { return cmp.Or(w.Chain, w.Tiers[Baseline]) }

// set puts an address into the sets of its way, and says whether any policy is evaluated, even if only audited.
func (in *podSets) set(a netip.Addr, text string, way Way) bool {
	goTo := func(set *nft.Set, chain string) {
		put(set, a, nft.Value{Verdict: nft.GotoChain(chain), Comment: text}, chain != "")
	}
	count := func(set *nft.Set, counts bool) { put(set, a, nft.Value{Comment: text}, counts) }
	goTo(in.dispatch, way.next())
	count(in.denied, way.Chain != "" && !way.Audit)
	count(in.audited, way.Chain != "" && way.Audit || way.Shadow != "")
	pass := ""
	if way.Audit && (way.Chain != "" || way.Shadow != "") {
		pass = way.Tiers[Baseline]
	}
	goTo(in.pass, pass)
	goTo(in.shadow, cmp.Or(way.Shadow, way.Tiers[AuditBaseline]))
	for t, list := range way.Tiers {
		goTo(in.admin[t], list)
		count(in.tierDenied[t], list != "")
	}
	return way.Chain != "" || way.Shadow != "" || way.Tiers != [4]string{}
}

// put adds an address to a set, which may be nil, or removes it.
func put(set *nft.Set, a netip.Addr, v nft.Value, in bool) { //nolint:revive // a fact
	switch {
	case set == nil:
	case in:
		set.Want(nft.AddrKey(a), v)
	default:
		set.Unwant(nft.AddrKey(a))
	}
}

// OfPod says whether a set is one that has isolated pods of a direction, by addresses of a family.
func OfPod(set string, d policy.Direction, f nft.Family) bool {
	names := []string{podsMap(d, f), deniedSet(d, f), selfSet(f), auditedSet(d, f), passMap(d, f), shadowMap(d, f)}
	for _, t := range AllTiers() {
		names = append(names, tierSet(t, d, f), adminMap(t, d, f))
	}
	return slices.Contains(names, set)
}

// setRefused denies everything to or from an address that the kernel refuses in the dispatch maps, except what no
// policy can block, or no longer does. The set, and what looks it up, exist as long as there is such an address.
func (fr *Frame) setRefused(d policy.Direction, a netip.Addr, text string, refused bool) { //nolint:revive // a fact
	had, was := fr.refused[d][a]
	switch {
	case refused && (!was || had != text):
		fr.refused[d][a] = text
	case was && !refused:
		delete(fr.refused[d], a)
		fr.pods[d][nft.FamilyOf(a)].refused.Unwant(nft.AddrKey(a))
	default:
		return
	}
	fr.write()
}

// refuse makes what denies everything to refused addresses. What such a pod sends to itself by a Service is denied as
// well: a ClusterNetworkPolicy may deny that.
func (fr *Frame) refuse(d policy.Direction) {
	if len(fr.refused[d]) == 0 {
		return
	}
	for a, text := range fr.refused[d] {
		f := nft.FamilyOf(a)
		set := fr.set(refusedSet(d, f), nft.SetType{Family: f, Fields: nft.Addr},
			"pods of this node that the kernel does not take into "+podsMap(d, f))
		set.Want(nft.AddrKey(a), nft.Value{Comment: text})
		fr.pods[d][f].refused = set
	}
	deny := nft.GotoChain(denyChain(d))
	fr.chain(refusedChain(d), "pods of this node whose isolations cannot be reached",
		nft.R(nft.NeighbourDiscovery{}, accept()), nft.R(nft.CtDNAT{}, nft.Counter{}, deny),
		nft.R(nft.JumpTo(alwaysChain)), nft.R(nft.Counter{}, deny))
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
