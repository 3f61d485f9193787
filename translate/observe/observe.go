// SPDX-License-Identifier: Apache-2.0

// Package observe is the part of a table that counts the new connections of the node's pods, for `netpold flows`: sets
// into which the kernel puts each flow, source, destination, protocol and port, with a counter, and the chains that
// packets of new connections pass to that end. It decides nothing, and a table without it has nothing of it.
//
//	forward, input ── new ──► observe ── from or to a pod of the node ──► flows-4
//	                          observe-6, of IPv6                      ──► flows-6
//	deny-…         ── new ──► observe-denied ───────────────────────────► flows-denied-4, flows-denied-6
//
// What is allowed is what was counted first and not denied then. A packet that finds its set full counts in flows-lost.
package observe

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
)

// Timeout is how long a flow stays in the kernel after its last connection, in seconds.
const Timeout = 60 * 60

// The chains. All of their names begin like the first.
const (
	newChain    = "observe"
	newChain6   = newChain + "-6"
	lostChain   = "observe-lost"
	deniedChain = "observe-denied"
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

// Add adds the sets to a table, and the chains that count what is denied and what is lost. [SetPods] says whose
// connections are counted, and [Rule] and [DeniedRule] send packets here.
func Add(t *nft.Table, max uint32) {
	comments := [...]string{"new connections of the pods, counted by packets", "those of them that were denied",
		"new connections that were not counted, as the set was full"}
	lost := &nft.Chain{Name: lostChain}
	for _, s := range Sets(max) {
		set := t.Set(s.Name, s.Type, comments[s.Kind])
		if s.Kind == Lost {
			first := map[nft.Family]netip.Addr{nft.IPv4: netip.IPv4Unspecified(), nft.IPv6: netip.IPv6Unspecified()}
			all := netip.PrefixFrom(first[s.Type.Family], 0)
			set.Want(nft.PairKey(all.Addr(), nft.LastAddr(all)), nft.Value{})
			lost.Rules = append(lost.Rules, nft.R(nft.LookupIn(nft.Source, set)))
		}
	}
	t.SetChain(lost)
	for _, f := range nft.Families() {
		t.Set(podsSet(f), nft.SetType{Family: f}, "pods of this node, for where no range tells them")
	}
	// The kernel takes 16 chains from a base chain on, and what was denied has come through many: it gets one.
	four, six := updateOf(t, Denied, nft.IPv4), updateOf(t, Denied, nft.IPv6)
	t.SetChain(&nft.Chain{Name: deniedChain,
		Rules: slices.Concat(count(four), count(six), countRest(ret(), four, six))})
}

// SetPods says which connections are counted: those from or to the ranges, which all pods of the node are in and nobody
// else, or without ranges those from or to the addresses of [SetPod]. A range is compared in less time than an address
// is looked up.
//
// Each statement that a packet meets costs some nanoseconds, and each other chain and each lookup as much as several.
// So one rule tells what is of no pod, and the next ones are for the commonest protocols.
func SetPods(t *nft.Table, ranges []netip.Prefix) {
	four, rest4 := countNew(t, nft.IPv4, ranges)
	six, rest6 := countNew(t, nft.IPv6, ranges)
	t.SetChain(&nft.Chain{Name: newChain6, Rules: slices.Concat(six, rest6)})
	toSix := []nft.Rule{nft.R(nft.OfFamily{Family: nft.IPv6}, nft.GotoChain(newChain6))}
	rules := slices.Concat(toSix, four, rest4)
	if len(six) == 0 { // no pod has such an address, so hardly any packet has
		rules = slices.Concat(four, toSix, rest4)
	}
	t.SetChain(&nft.Chain{Name: newChain, Comment: "counts new connections; decides nothing", Rules: rules})
}

// countNew returns the rules that count the new connections of a family, those with ports first.
func countNew(t *nft.Table, f nft.Family, ranges []netip.Prefix) (ported, rest []nft.Rule) {
	var outside []nft.Statement
	for _, side := range [...]nft.Side{nft.Source, nft.Destination} {
		for _, p := range ranges {
			if nft.FamilyOf(p.Addr()) == f {
				outside = append(outside, nft.AddrIn{Side: side, Prefix: p, Not: true})
			}
		}
		if len(ranges) == 0 {
			pods := nft.LookupIn(side, t.FindSet(podsSet(f)))
			pods.Not = true
			outside = append(outside, pods)
		}
	}
	none := nft.R(append(outside, ret())...)
	if len(outside) == 0 { // no pod has an address of the family
		return nil, []nft.Rule{none}
	}
	update, lost := updateOf(t, All, f), nft.GotoChain(lostChain)
	return append([]nft.Rule{none}, count(update)...), append(countRest(lost, update), nft.R(lost))
}

func updateOf(t *nft.Table, kind Kind, f nft.Family) nft.Update {
	return nft.UpdateOf(t.FindSet(setOf(kind, f, 0).Name))
}

// opening are the matches of packets with ports that begin connections, the commonest first.
func opening() []nft.Statement {
	return []nft.Statement{nft.Opening{}, whole(nft.UDP), whole(nft.SCTP)}
}

func whole(proto uint8) nft.Ports { return nft.Ports{{Proto: proto, Last: 65535}} }

// count returns the rules that count packets with ports.
func count(update nft.Update) []nft.Rule {
	var rules []nft.Rule
	for _, match := range opening() {
		rules = append(rules, nft.R(match, update, ret()))
	}
	return rules
}

// countRest returns the rules behind those of [count], which count packets without ports; those for which count had no
// room get a verdict.
func countRest(full nft.Verdict, updates ...nft.Update) []nft.Rule {
	var rules []nft.Rule
	for _, match := range opening() {
		rules = append(rules, nft.R(match, full))
	}
	rules = append(rules, nft.R(whole(nft.TCP), ret()))
	for _, update := range updates {
		if update.Type.Family == nft.IPv6 {
			rules = append(rules, nft.R(nft.NeighbourDiscovery{}, ret()))
		}
		update.Portless = true
		rules = append(rules, nft.R(update, ret()))
	}
	return rules
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
