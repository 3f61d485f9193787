// SPDX-License-Identifier: Apache-2.0

package tier_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
	"github.com/netpold/netpold/translate/tier"
)

// kinds are the kinds of pods at the far end, by number, and a range of ports that a name has in each.
const kinds = 4

func named(kind int) nft.Ports {
	return nft.Ports{{Proto: nft.UDP, First: uint16(50 + kind), Last: uint16(50 + kind)}}
}

func podPorts(kind int) []policy.NamedPort {
	return []policy.NamedPort{{Name: "web", Proto: nft.UDP, Number: uint16(50 + kind)}}
}

func podAddr(kind int, f nft.Family) netip.Addr {
	if f == nft.IPv4 {
		return netip.AddrFrom4([4]byte{10, 0, byte(kind), 1})
	}
	return netip.MustParseAddr(fmt.Sprintf("fd00::%d:1", kind))
}

// selectorsOf returns the selectors that match pods of a kind: one for each, and one for two of them.
func selectorsOf(kind int) []int {
	if kind == 1 || kind == 2 {
		return []int{kind, kinds}
	}
	return []int{kind}
}

// rule is a rule of a list, and the selectors of its peers.
type rule struct {
	tier.Rule
	pods []int
}

func randomPorts(r *rand.Rand) spec.Ports {
	var ports nft.Ports
	for range r.IntN(4) + r.IntN(2)*r.IntN(12) {
		low := uint16([]int{0, 1, 50, 51, 53, 79, 80, 65534}[r.IntN(8)])
		high := low + uint16(r.IntN(3)*r.IntN(20))
		ports = append(ports, nft.PortRange{
			Proto: []uint8{nft.TCP, nft.UDP, nft.SCTP}[r.IntN(3)], First: low, Last: max(low, high),
		})
	}
	return spec.Ports{Every: len(ports) == 0, Ranges: ports.Compact()}
}

func randomRule(r *rand.Rand, d policy.Direction) rule {
	var out rule
	out.Policy, out.Index = fmt.Sprintf("p%d", r.IntN(3)), r.IntN(25)
	out.Action = []spec.Action{spec.Accept, spec.Deny, spec.Pass}[r.IntN(3)]
	out.Ports = randomPorts(r)
	for selector := range kinds + 1 {
		if r.IntN(3) == 0 {
			out.pods = append(out.pods, selector)
		}
	}
	switch {
	case r.IntN(12) == 0:
		out.All, out.pods = true, nil
	case d == policy.Egress && r.IntN(2) == 0:
		for range 1 + r.IntN(3) {
			n := []string{"10.0.0.0/8", "10.0.1.0/24", "10.0.1.1/32", "0.0.0.0/0", "::/0", "fd00::/16", "128.0.0.0/1",
				"192.0.2.0/25", "192.0.2.128/25"}[r.IntN(9)]
			out.Networks = append(out.Networks, netip.MustParsePrefix(n))
		}
	case !out.Ports.Every && r.IntN(2) == 0:
		out.Named = []string{"web"}
	}
	return out
}

// matches says whether a rule matches a packet to or from an address, which is of a kind of pods or, with -1, none's.
func (r rule) matches(kind int, p trace.Packet, peer netip.Addr) bool {
	pod := slices.ContainsFunc(r.pods, func(selector int) bool { return slices.Contains(selectorsOf(kind), selector) })
	network := slices.ContainsFunc(r.Networks, func(n netip.Prefix) bool { return n.Contains(peer) })
	port := r.Ports.Every || r.Ports.Ranges.Contains(p.Proto, p.DstPort) ||
		pod && len(r.Named) > 0 && named(kind).Contains(p.Proto, p.DstPort)
	return (r.All || pod || network) && port
}

// table is the table of a list, behind a chain that rejects what the list does not decide.
type table struct {
	*nft.Table
	parts *tier.Parts
	list  *tier.Placed
	has   map[netip.Addr]*tier.Group
}

// tableOf has all pods, but for those of kind 0, some that a first choice of selectors matched.
func tableOf(at tier.Place, rules []rule, wide []int, most int) *table {
	t := &table{Table: nft.NewTable("t", ""), has: make(map[netip.Addr]*tier.Group)}
	t.parts = tier.NewParts(t.Table)
	var plain []tier.Rule
	s := tier.Selectors{RulesOf: make([][]int, kinds+1), Wide: wide}
	for i, r := range rules {
		plain = append(plain, r.Rule)
		for _, kind := range r.pods {
			s.RulesOf[kind] = append(s.RulesOf[kind], i)
		}
	}
	sets := func(n tier.Need, f nft.Family) *nft.Set {
		typ := nft.SetType{Family: f}
		if n.Names != nil {
			typ.Fields = nft.AddrProtoPort
		}
		set := t.Set(fmt.Sprintf("kind-%d-%s-%s", n.Selector, n.Names, f), typ, "")
		for kind := range kinds {
			if a := podAddr(kind, f); slices.Contains(selectorsOf(kind), n.Selector) {
				if n.Names == nil {
					set.Want(nft.AddrKey(a), nft.Value{})
				} else {
					set.Want(nft.PortKey(a, nft.UDP, named(kind)[0].First), nft.Value{})
				}
			}
		}
		return set
	}
	v := tier.Verdicts{Tail: func(r frame.TierRule) []nft.Rule {
		return []nft.Rule{nft.R(nft.Log{Prefix: r.Chain()}, nft.Verdict{Kind: nft.Drop})}
	}}
	bounds := tier.DefaultBounds()
	bounds.Elements = most
	l := tier.New(at, plain, v, bounds)
	t.list = l.PutInto(t.parts, "list", s)
	t.list.Reform(sets, maps.All(t.has))
	for kind := range kinds {
		wrong, right := t.list.Group([]int{(kind + 1) % kinds}, nil), t.list.Group(selectorsOf(kind), podPorts(kind))
		for _, f := range nft.Families() {
			a := podAddr(kind, f)
			if kind > 0 {
				t.list.Move(a, nil, wrong)
				t.list.Move(a, wrong, right)
			} else {
				t.list.Move(a, nil, right)
			}
			t.has[a] = right
		}
		t.list.Leave(wrong)
	}
	if t.list.Stale() {
		t.list.Reform(sets, maps.All(t.has))
	}
	t.SetChain(&nft.Chain{Name: "ingress", Rules: []nft.Rule{nft.R(nft.Verdict{Kind: nft.Accept})}})
	t.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.JumpTo("list")), nft.R(nft.Verdict{Kind: nft.Reject}),
	}})
	return t
}

// want is the rules' verdict on a packet: the chain of the rule that denies, "accept", or "none".
func want(at tier.Place, rules []rule, kind int, p trace.Packet) string {
	peer := p.Src
	if at.Direction == policy.Egress {
		peer = p.Dst
	}
	for _, r := range rules {
		if !r.matches(kind, p, peer) {
			continue
		}
		switch r.Action {
		case spec.Accept:
			return "accept"
		case spec.Deny:
			return frame.TierRule{Tier: at.Tier, Direction: at.Direction, Policy: r.Policy, Index: r.Index}.Chain()
		}
		break
	}
	if at.Tier == frame.Baseline {
		return "accept"
	}
	return "none"
}

// TestFirstMatch: the chains and maps of random lists do with packets what the first matching rule says.
func TestFirstMatch(t *testing.T) {
	packets, forms := 0, make(map[tier.Form]int)
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 14))
		at := tier.Place{Tier: frame.AllTiers()[r.IntN(2)], Direction: policy.Directions()[r.IntN(2)]}
		var rules []rule
		for range r.IntN(12) {
			rules = append(rules, randomRule(r, at.Direction))
		}
		wide := r.Perm(kinds + 1)[:r.IntN(4)]
		table := tableOf(at, rules, wide, []int{0, 5, 20, 1000}[seed%4])
		forms[table.list.Form()]++
		for range 200 {
			f, kind := nft.Families()[r.IntN(2)], r.IntN(kinds+1)-1
			peer := podAddr(max(kind, 0), f)
			if kind < 0 {
				some := []string{"192.0.2.1", "192.0.2.129", "10.0.1.2", "fd00::9", "2001::1"}
				peer = netip.MustParseAddr(some[r.IntN(len(some))])
			}
			own := map[bool]netip.Addr{true: netip.MustParseAddr("10.9.9.9"),
				false: netip.MustParseAddr("fd99::9")}[peer.Is4()]
			p := trace.Packet{Src: peer, Dst: own, Proto: []uint8{nft.TCP, nft.UDP, nft.SCTP, nft.ICMP}[r.IntN(4)]}
			if p.Proto != nft.ICMP {
				p.DstPort = uint16([]int{0, 1, 49, 50, 51, 52, 53, 54, 60, 79, 80, 81, 100, 65535}[r.IntN(14)])
			}
			if at.Direction == policy.Egress {
				p.Src, p.Dst = p.Dst, p.Src
			}
			trail, err := trace.Follow(table.Table, p)
			steps, verdict := trail.Steps, trail.Verdict
			got := map[nft.VerdictKind]string{nft.Accept: "accept", nft.Reject: "none"}[verdict.Kind]
			if verdict.Kind == nft.Drop {
				got = steps[len(steps)-1].Chain
			}
			if want := want(at, rules, kind, p); err != nil || got != want {
				t.Fatalf("seed %d, %v, %s of kind %d: %s (%v), want %s\n%s", seed, at, p, kind, got, err, want, table)
			}
			packets++
		}
		for a, g := range table.has {
			table.list.Move(a, g, nil)
		}
		for _, m := range table.Sets() {
			if strings.HasPrefix(m.Name, "list") && m.Len() > 0 {
				t.Fatalf("seed %d: of no pods are left %v", seed, m.Elements())
			}
		}
		table.list.Remove()
		own := slices.DeleteFunc(table.Sets(), func(m *nft.Set) bool { return strings.HasPrefix(m.Name, "kind") })
		if n := len(table.parts.Users()); n > 0 || len(table.Chains()) != 2 || len(own) > 0 {
			t.Fatalf("seed %d: %d parts are left\n%s", seed, n, table)
		}
	}
	t.Logf("%d packets, lists by form: %v", packets, forms)
	if forms[tier.Classes] == 0 || forms[tier.Sequential] == 0 {
		t.Error("no list has one of the forms")
	}
}

// TestNetworksNested: if each of 20,000 networks is in those of 2,000 rules, the list is found to be too large without
// writing all of them down for each.
func TestNetworksNested(t *testing.T) {
	var rules []tier.Rule
	for i := range 2000 {
		r := tier.Rule{Policy: "p"}
		r.Index, r.Action, r.Ports = i, spec.Deny, spec.Ports{Ranges: nft.Ports{{Proto: nft.TCP, First: 1, Last: 1}}}
		r.Networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		for k := range 10 {
			a := netip.AddrFrom4([4]byte{byte(k + 1), byte(i >> 8), byte(i), 1})
			r.Networks = append(r.Networks, netip.PrefixFrom(a, 32))
		}
		rules = append(rules, r)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	at := tier.Place{Tier: frame.Admin, Direction: policy.Egress}
	list := tier.New(at, rules, tier.Verdicts{}, tier.DefaultBounds())
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(list)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 100<<20 {
		t.Errorf("%d MiB", bytes>>20)
	} else {
		t.Logf("%d MiB", bytes>>20)
	}
}

// TestPorts: the way to a port's verdict costs the kernel as little as possible: a comparison if there is one verdict,
// a hash for single ports, and intervals only for ranges, or for ports among many of those.
func TestPorts(t *testing.T) {
	ports := func(first, step, n, length int) nft.Ports {
		var all nft.Ports
		for i := range n {
			low := uint16(first + i*step)
			all = append(all, nft.PortRange{Proto: nft.TCP, First: low, Last: low + uint16(length-1)})
		}
		return all
	}
	for name, c := range map[string]struct {
		accept, deny nft.Ports
		want         string // the chain that looks ports up, and the types of what it looks them up in
	}{
		"touching":        {accept: ports(1000, 1, 1000, 1), want: "tcp dport 1000-1999 accept"},
		"few":             {accept: ports(22, 58, 2, 1), deny: ports(53, 1, 1, 1), want: "tcp dport 22 accept"},
		"apart":           {accept: ports(1000, 2, 300, 1), want: "ports 300"},
		"two verdicts":    {accept: ports(1000, 2, 20, 1), deny: ports(1001, 2, 20, 1), want: "ports 40"},
		"beside ranges":   {accept: ports(1000, 2, 20, 1), deny: ports(2000, 20, 3, 10), want: "ports 20, ranges 3"},
		"ranges for each": {accept: ports(1000, 20, 20, 1), deny: ports(2000, 20, 20, 10), want: "ranges 40"},
	} {
		var rules []rule
		for i, of := range []nft.Ports{c.accept, c.deny} {
			r := rule{pods: []int{0}}
			r.Policy, r.Index, r.Ports.Ranges = "p", i, of
			r.Action = []spec.Action{spec.Accept, spec.Deny}[i]
			rules = append(rules, r)
		}
		at := tier.Place{Tier: frame.Admin, Direction: policy.Ingress}
		table := tableOf(at, rules, nil, tier.DefaultBounds().Elements)
		if got := waysToPorts(table.Table); got != c.want {
			t.Errorf("%s: ports are found by %s, want %s", name, got, c.want)
		}
	}
}

// waysToPorts returns the sets of ports of a table, with their sizes, or the first rule with ports if there are none.
func waysToPorts(t *nft.Table) string {
	var all []string
	for _, s := range t.Sets() {
		switch s.Type {
		case nft.SetType{Fields: nft.Port, Map: true, Size: uint32(s.Len())}:
			all = append(all, fmt.Sprintf("ports %d", s.Len()))
		case nft.SetType{Fields: nft.PortInterval, Map: true}:
			all = append(all, fmt.Sprintf("ranges %d", s.Len()))
		}
	}
	for _, c := range t.Chains() {
		if all == nil && strings.Contains(c.Name, "class") {
			all = append(all, c.Rules[0].String())
		}
	}
	return strings.Join(all, ", ")
}
