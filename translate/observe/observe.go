// SPDX-License-Identifier: Apache-2.0

// Package observe is the part of a table that counts the new connections of the node's pods, for `netpold flows`: sets
// to which the kernel adds each flow (source, destination, protocol and port) with a counter, and the chains that
// packets of new connections pass for that. It decides nothing, and is absent unless asked for.
//
//	forward, input ── new ──► observe ── from or to a pod of the node ──► flows-4
//	                          observe-6, of IPv6                      ──► flows-6
//	deny-…         ── new ──► observe-denied ───────────────────────────► flows-denied-4, flows-denied-6
//
// Allowed is what was counted first and not denied later. A packet that finds its set full counts in flows-lost.
package observe

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
)

// Timeout is how long a flow stays in the kernel after its last connection, in seconds.
const Timeout = 60 * 60

// The chains. The first's name is a prefix of all.
const (
	newChain    = "observe"
	newChain6   = newChain + "-6"
	lostChain   = "observe-lost"
	deniedChain = "observe-denied"
)

// Kind is what a set counts.
type Kind uint8

// The kinds, in the order in which the sets must be read: a packet is counted in [All] before [Denied].
const (
	All    Kind = iota // flows, with the number of their connections
	Denied             // denied flows, with the number of denied connections
	Lost               // how many connections were not counted, in a single element
)

// Set is a set of the table that packets fill or count in.
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

// Add adds the sets to a table, and the chains that count denied and lost connections. [SetPods] says whose connections
// are counted, and [Rule] and [DeniedRule] send packets here.
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
	// The kernel allows 16 chains below a base chain, and a denied packet has passed many: it gets only one here.
	four, six := updateOf(t, Denied, nft.IPv4), updateOf(t, Denied, nft.IPv6)
	t.SetChain(&nft.Chain{Name: deniedChain,
		Rules: slices.Concat(count(four), count(six), countRest(ret(), four, six))})
}

// SetPods says which connections are counted: those from or to the ranges, which must contain all pods of the node and
// nobody else, or without ranges those from or to the addresses of [SetPod]. Comparing a range is faster than looking
// up an address.
//
// Each statement that a packet meets costs some nanoseconds, and each chain and each lookup as much as several. So one
// rule excludes what is not a pod's, and the next ones are for the most common protocols.
func SetPods(t *nft.Table, ranges []netip.Prefix) {
	four, rest4 := countNew(t, nft.IPv4, ranges)
	six, rest6 := countNew(t, nft.IPv6, ranges)
	t.SetChain(&nft.Chain{Name: newChain6, Rules: slices.Concat(six, rest6)})
	toSix := []nft.Rule{nft.R(nft.OfFamily{Family: nft.IPv6}, nft.GotoChain(newChain6))}
	rules := slices.Concat(toSix, four, rest4)
	if len(six) == 0 { // no pod has such an address, so hardly any packet does
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

// opening returns the matches of packets with ports that begin connections, the most common first.
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

// countRest returns the rules after those of [count], for packets without ports; packets for which count had no room
// get the verdict full.
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

// Rule returns the rule with which a base chain, after the rule for established connections, counts new ones. Untracked
// packets are counted only on their way to the node, as to a DNS cache; elsewhere their replies would be flows, too.
func Rule(h nft.Hook) nft.Rule {
	if h == nft.Input {
		return nft.R(nft.CtState{nft.New, nft.Untracked}, nft.JumpTo(newChain))
	}
	return nft.R(nft.CtState{nft.New}, nft.JumpTo(newChain))
}

// DeniedRule returns the rule with which a denying chain counts what it denies. Without it, that would be reported as
// allowed.
func DeniedRule() nft.Rule {
	return nft.R(nft.CtState{nft.New, nft.Untracked}, nft.JumpTo(deniedChain))
}

// Counts says whether a chain is one of these.
func Counts(chain string) bool { return strings.HasPrefix(chain, newChain) }

// SetPod makes connections from and to an address of a pod of the node be counted.
func SetPod(t *nft.Table, a netip.Addr) {
	t.FindSet(podsSet(nft.FamilyOf(a))).Want(nft.AddrKey(a), nft.Value{})
}

// UnsetPod undoes SetPod.
func UnsetPod(t *nft.Table, a netip.Addr) { t.FindSet(podsSet(nft.FamilyOf(a))).Unwant(nft.AddrKey(a)) }
