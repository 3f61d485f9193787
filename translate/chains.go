// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// What the tail of an isolation logs of the packets that it denies.
const (
	logRate    = 100 // packets a second, for each isolation
	logBurst   = 200 // packets
	logSnaplen = 128 // bytes: the headers, and where an ICMP error is about what it is about
)

// addFrame makes what every table has and what never changes: the way of a packet, the maps by which it meets the
// isolations of its pods, what is always allowed, and how what is not allowed is denied.
//
// The way is: the isolation of the source, the isolation of the destination, accept. The base chain finds either, so
// that a packet of pods that no policy selects takes no jump. What an egress isolation allows goes to the chain
// ingress, and never comes back: a goto out of a chain that was jumped to ends where ingress does.
func (s *State) addFrame() {
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			s.table.Set(podsMap(d, f), nft.SetType{Family: f, Fields: nft.Addr, Map: true},
				"pods of this node, to where their "+d.String()+" is decided")
		}
		s.table.SetChain(s.denyChain(d))
	}
	always := &nft.Chain{
		Name:    alwaysChain,
		Comment: "what no policy can block",
		Rules:   []nft.Rule{nft.R(nft.NeighbourDiscovery{}, accept())},
	}
	for _, f := range nft.Families() {
		self := s.table.Set(selfSet(f), nft.SetType{Family: f, Fields: nft.AddrAddr}, "isolated pods, each to itself")
		always.Rules = append(always.Rules, nft.R(nft.LookupIn(nft.Source, self), accept()))
	}
	s.table.SetChain(always)
	s.setWay()
}

// setWay makes the chains that every packet comes through, with the guard if there is one.
func (s *State) setWay() {
	for _, d := range policy.Directions() {
		s.setUnknown(d)
	}
	s.table.SetChain(&nft.Chain{
		Name: ingressChain, Comment: "where egress isolations send what they allow",
		Rules: append(s.dispatch(policy.Ingress), nft.R(accept())),
	})
	s.table.SetChain(&nft.Chain{
		Name: forwardChain, Comment: "from and to the pods of this node", Base: &nft.Base{Hook: nft.Forward},
		Rules: slices.Concat(s.early(), s.dispatch(policy.Egress), s.dispatch(policy.Ingress)),
	})
	if s.options.PodToNode == policy.AllowPodToNode {
		return
	}
	s.table.SetChain(&nft.Chain{
		Name: inputChain, Comment: "from the pods of this node to the node itself", Base: &nft.Base{Hook: nft.Input},
		Rules: slices.Concat(s.early(), s.dispatch(policy.Egress)),
	})
}

// dispatch returns the rules that send a packet to the isolation that its pod has in a direction, if any. Behind them
// is the guard.
func (s *State) dispatch(d policy.Direction) []nft.Rule {
	var rules []nft.Rule
	for _, f := range nft.Families() {
		if set := s.table.FindSet(refusedSet(d, f)); set != nil {
			rules = append(rules, nft.R(nft.LookupIn(podSide(d), set), nft.GotoChain(refusedChain(d))))
		}
		rules = append(rules, nft.R(nft.LookupIn(podSide(d), s.table.FindSet(podsMap(d, f)))))
	}
	return append(rules, s.guardRules(d)...)
}

// early is what passes without a look at the policies: what belongs to connections that they allowed.
func (s *State) early() []nft.Rule {
	if s.options.Established == Keep {
		return []nft.Rule{nft.R(nft.CtState{nft.Established, nft.Related}, accept())}
	}
	return []nft.Rule{
		nft.R(nft.CtState{nft.Related}, accept()),
		nft.R(nft.CtState{nft.Established}, nft.CtReply{}, accept()),
	}
}

// render makes the chain of the isolation, and drops the sets that have become empty. The chain looks each kind of
// match up once, whatever the number of policies; what it does not allow it logs and denies.
func (iso *isolation) render(s *State) {
	for _, f := range nft.Families() {
		for _, k := range setKinds() {
			if set := s.table.FindSet(iso.setName(k, f)); set != nil && set.Len() == 0 {
				s.table.DeleteSet(set.Name)
			}
		}
	}
	s.table.SetChain(iso.chain(s))
}

// chain returns the isolation's chain.
func (iso *isolation) chain(s *State) *nft.Chain {
	peer := peerSide(iso.direction)
	c := &nft.Chain{Name: iso.name, Comment: policyList(iso.policies)}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.Rules(statements...)...) }
	if iso.any.Every {
		add(allow(iso.direction))
		return c
	}
	if !iso.any.Empty() {
		add(openTo(iso.direction, iso.any)...)
	}
	for _, k := range []setKind{portsSet, podsSet, rangesSet} {
		iso.lookUp(s, k, add)
	}
	for _, sel := range slices.SortedFunc(maps.Keys(iso.lookedUp), bySelector) {
		for _, f := range nft.Families() {
			set := sel.sets[f]
			switch ports := iso.lookedUp[sel]; {
			case set == nil:
			case ports.Every:
				add(nft.LookupIn(peer, set), allow(iso.direction))
			default:
				add(append([]nft.Statement{nft.LookupIn(peer, set)}, openTo(iso.direction, ports)...)...)
			}
		}
	}
	iso.lookUp(s, blocksSet, add)
	add(nft.JumpTo(alwaysChain))
	iso.deny(s, add)
	return c
}

// openTo returns the statements that allow ports in a direction.
func openTo(d policy.Direction, ports spec.Ports) []nft.Statement {
	if inline(ports) {
		return []nft.Statement{ports.Ranges, allow(d)}
	}
	return []nft.Statement{nft.JumpTo(openingOf(d, ports, nil).chain)}
}

// lookUp adds the lookups of the isolation's sets of one kind.
func (iso *isolation) lookUp(s *State, k setKind, add func(...nft.Statement)) {
	for _, f := range nft.Families() {
		set := s.table.FindSet(iso.setName(k, f))
		switch {
		case set == nil:
		case set.Type.Map:
			add(nft.LookupIn(peerSide(iso.direction), set))
		default:
			add(nft.LookupIn(peerSide(iso.direction), set), allow(iso.direction))
		}
	}
}

// deny adds the tail: log, count, deny.
func (iso *isolation) deny(s *State, add func(...nft.Statement)) {
	if s.options.LogGroup != 0 {
		add(nft.Limit{Rate: logRate, Burst: logBurst},
			nft.Log{Prefix: iso.name, Group: s.options.LogGroup, Snaplen: logSnaplen})
	}
	add(nft.Counter{}, nft.GotoChain(denyChain(iso.direction)))
}

// denyChain returns the chain in which the isolations of a direction end. It counts for each pod: a set keeps its
// counts when an isolation's chain changes, or the pod gets another isolation.
func (s *State) denyChain(d policy.Direction) *nft.Chain {
	c := &nft.Chain{Name: denyChain(d), Comment: "what no policy allows; counts it in the pod's element"}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.R(statements...)) }
	for _, set := range DeniedSets() {
		if set.Direction == d {
			add(nft.LookupIn(podSide(d), s.table.Set(set.Name, set.Type,
				"packets that were denied, by pod of this node")))
		}
	}
	if s.options.Deny == nft.Reject {
		add(nft.Ports{{Proto: nft.TCP, First: 0, Last: 65535}}, nft.Verdict{Kind: nft.Reset})
		add(nft.Verdict{Kind: nft.Reject})
		return c
	}
	add(nft.Verdict{Kind: nft.Drop})
	return c
}

// DeniedSet is a set of the isolated pods of the node, in whose elements the kernel counts what is denied in a
// direction. The comment of an element is the pod, as namespace/name.
type DeniedSet struct {
	Name      string
	Type      nft.SetType
	Direction policy.Direction
}

// DeniedSets returns the sets that count, which every table has.
func DeniedSets() []DeniedSet {
	var sets []DeniedSet
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			sets = append(sets, DeniedSet{deniedSet(d, f), nft.SetType{Family: f, Fields: nft.Addr, Counter: true}, d})
		}
	}
	return sets
}
