// SPDX-License-Identifier: Apache-2.0

// Package observe is the part of a table that counts the new connections of the node's pods, for `netpold flows`: sets
// into which the kernel puts each flow, source, destination, protocol and port, with a counter, and the chains that
// packets of new connections pass to that end. It decides nothing, and a table without it has nothing of it.
//
//	forward, input ── new ──► observe ── from or to a pod of the node ──► observe-flow ──► flows-4
//	deny-…         ── new ──► observe-denied ───────────────────────────────────────────► flows-denied-4
//
// What is allowed is what was counted first and not denied then. A packet that finds its set full counts in flows-lost.
package observe

import (
	"net/netip"
	"strings"

	"github.com/netpold/netpold/nft"
)

// Timeout is how long a flow stays in the kernel after its last connection, in seconds.
const Timeout = 60 * 60

// The chains. All of their names begin like the first.
const (
	newChain    = "observe"
	flowChain   = "observe-flow"
	deniedChain = "observe-denied"
	withPorts   = "-port" // ends the name of the second of a pair
)

// Kind is what a set has.
type Kind uint8

// The kinds, in the order in which the sets are to be read: a packet is counted in [All] before [Denied].
const (
	All    Kind = iota // flows, with the number of their connections
	Denied             // those of them that were denied, with the number of those connections
	Lost               // how many connections were not counted: one element of all addresses
)

// Set is a set of the table that packets fill, or that counts them.
type Set struct {
	Name string
	Kind Kind
	Type nft.SetType
}

// Sets returns the sets of a table that has at most max flows of each family and kind.
func Sets(max uint32) []Set {
	var sets []Set
	for _, kind := range [...]Kind{All, Denied, Lost} {
		for _, f := range nft.Families() {
			sets = append(sets, setOf(kind, f, max))
		}
	}
	return sets
}

func setOf(kind Kind, f nft.Family, max uint32) Set {
	name := [...]string{"flows", "flows-denied", "flows-lost"}[kind] + "-" + f.String()
	if kind == Lost {
		return Set{name, kind, nft.SetType{Family: f, Fields: nft.AddrRange, Counter: true}}
	}
	return Set{name, kind, nft.SetType{Family: f, Fields: nft.Flow, Dynamic: nft.Dynamic{Max: max, Timeout: Timeout}}}
}

// podsSet names the set of the addresses of the node's pods.
func podsSet(f nft.Family) string { return "observed-pods-" + f.String() }

// Add adds the sets and chains to a table. [SetPods] says whose connections are counted, and [Rule] and [DeniedRule]
// send packets here.
func Add(t *nft.Table, max uint32) {
	comments := [...]string{"new connections of the pods, counted by packets", "those of them that were denied",
		"new connections that were not counted, as the set was full"}
	for _, s := range Sets(max) {
		set := t.Set(s.Name, s.Type, comments[s.Kind])
		if s.Kind == Lost {
			first := map[nft.Family]netip.Addr{nft.IPv4: netip.IPv4Unspecified(), nft.IPv6: netip.IPv6Unspecified()}
			all := netip.PrefixFrom(first[s.Type.Family], 0)
			set.Want(nft.PairKey(all.Addr(), nft.LastAddr(all)), nft.Value{})
		}
	}
	for _, f := range nft.Families() {
		t.Set(podsSet(f), nft.SetType{Family: f}, "pods of this node, for where no range tells them")
	}
	addPair(t, All, flowChain)
	addPair(t, Denied, deniedChain)
}

// SetPods says which connections are counted: those from or to the ranges, which all pods of the node are in and nobody
// else, or without ranges those from or to the addresses of [SetPod]. A range is compared in less time than an address
// is looked up.
func SetPods(t *nft.Table, ranges []netip.Prefix) {
	c := &nft.Chain{Name: newChain, Comment: "counts new connections; decides nothing",
		Rules: []nft.Rule{nft.R(nft.Midstream{}, ret())}}
	add := func(match nft.Statement) { c.Rules = append(c.Rules, nft.R(match, nft.GotoChain(flowChain))) }
	for _, side := range [...]nft.Side{nft.Source, nft.Destination} {
		for _, p := range ranges {
			add(nft.AddrIn{Side: side, Prefix: p})
		}
		for _, f := range nft.Families() {
			if len(ranges) == 0 {
				add(nft.LookupIn(side, t.FindSet(podsSet(f))))
			}
		}
	}
	t.SetChain(c)
}

// addPair adds the chain that counts packets without ports in the sets of a kind, and the one for those with ports.
// Nearly all are of TCP and UDP: the first chain counts them itself, which saves a step, where there is room for them.
// What was denied has come through many chains, of which the kernel takes 16: it gets no second one, and is not counted
// where there is no room.
func addPair(t *nft.Table, kind Kind, name string) {
	var rules []nft.Rule
	with, then := []uint8{nft.TCP, nft.UDP}, nft.GotoChain(name+withPorts)
	if kind == Denied {
		rules = append(rules, nft.R(nft.Midstream{}, ret()))
		with, then = append(with, nft.SCTP), ret()
	}
	for _, f := range nft.Families() {
		for _, proto := range with {
			update := nft.UpdateOf(t.FindSet(setOf(kind, f, 0).Name))
			rules = append(rules, nft.R(nft.Ports{{Proto: proto, Last: 65535}}, update, ret()))
		}
	}
	for _, proto := range [...]uint8{nft.TCP, nft.UDP, nft.SCTP} {
		rules = append(rules, nft.R(nft.Ports{{Proto: proto, Last: 65535}}, then))
	}
	rules = append(rules, nft.R(nft.NeighbourDiscovery{}, ret()))
	t.SetChain(&nft.Chain{Name: name, Rules: append(rules, count(t, kind, true)...)})
	if kind == All {
		t.SetChain(&nft.Chain{Name: name + withPorts, Rules: count(t, kind, false)})
	}
}

// count returns the rules that count a packet in a set of a kind, or else as lost: once, as what is denied comes twice.
//
//nolint:revive // portless is a fact of the packet
func count(t *nft.Table, kind Kind, portless bool) []nft.Rule {
	var rules, lost []nft.Rule
	for _, f := range nft.Families() {
		update := nft.UpdateOf(t.FindSet(setOf(kind, f, 0).Name))
		update.Portless = portless
		rules = append(rules, nft.R(update, ret()))
		if kind == All {
			lost = append(lost, nft.R(nft.LookupIn(nft.Source, t.FindSet(setOf(Lost, f, 0).Name))))
		}
	}
	return append(rules, lost...)
}

func ret() nft.Verdict { return nft.Verdict{Kind: nft.Return} }

// Rule returns the rule of a base chain, behind that of established connections, by which it has new ones counted. What
// conntrack does not track is counted on its way to the node, where a cache of DNS is asked so; elsewhere its replies
// would be flows, too.
func Rule(h nft.Hook) nft.Rule {
	if h == nft.Input {
		return nft.R(nft.CtState{nft.New, nft.Untracked}, nft.JumpTo(newChain))
	}
	return nft.R(nft.CtState{nft.New}, nft.JumpTo(newChain))
}

// DeniedRule returns the rule by which a chain that denies what comes to it has that counted. Without it, what it
// denies is told to be allowed.
func DeniedRule() nft.Rule {
	return nft.R(nft.CtState{nft.New, nft.Untracked}, nft.JumpTo(deniedChain))
}

// Counts says whether a chain is one of those that count.
func Counts(chain string) bool { return strings.HasPrefix(chain, newChain) }

// SetPod has the connections from and to an address of a pod of the node counted.
func SetPod(t *nft.Table, a netip.Addr) {
	t.FindSet(podsSet(nft.FamilyOf(a))).Want(nft.AddrKey(a), nft.Value{})
}

// UnsetPod undoes SetPod.
func UnsetPod(t *nft.Table, a netip.Addr) { t.FindSet(podsSet(nft.FamilyOf(a))).Unwant(nft.AddrKey(a)) }
