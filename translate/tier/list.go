// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Rule is a rule of a list. Names of ports are those of peers, and its nodes are among its networks.
type Rule struct {
	spec.ClusterRule
	Policy string
}

// Place is where a list counts.
type Place struct {
	Tier      frame.Tier
	Direction policy.Direction
}

// List is the rules of a tier for a kind of pod in a direction, in the order in which they count.
type List struct {
	Place
	rules    []Rule
	named    bool                            // a rule names ports of its peers
	tail     func(frame.TierRule) []nft.Rule // of the chain of a rule that denies
	always   []int                           // rules for every address
	sets     [][]int                         // the distinct sets of rules of networks
	networks map[nft.Family][]network
}

// network is an interval of addresses, both ends inclusive, in the networks of the same rules.
type network struct {
	first, last netip.Addr
	set         int // of sets
}

// New returns the list of rules, which are not changed afterwards. The chain of a rule that denies has the rules of
// tail.
func New(at Place, rules []Rule, tail func(frame.TierRule) []nft.Rule) *List {
	l := &List{Place: at, rules: rules, tail: tail, networks: make(map[nft.Family][]network)}
	for i, r := range rules {
		l.named = l.named || len(r.Named) > 0
		if r.All {
			l.always = append(l.always, i)
		}
	}
	for _, f := range nft.Families() {
		l.cut(f)
	}
	return l
}

// edge is an address at which networks of a rule begin, or from which on they do not.
type edge struct {
	at   netip.Addr
	rule int
	by   int // +1 begins, -1 has ended
}

// cut cuts the networks of a family into disjoint intervals.
func (l *List) cut(f nft.Family) {
	var edges []edge
	for i, r := range l.rules {
		for _, n := range r.Networks {
			if nft.FamilyOf(n.Addr()) != f {
				continue
			}
			edges = append(edges, edge{n.Addr(), i, +1})
			if end := nft.LastAddr(n).Next(); end.IsValid() {
				edges = append(edges, edge{end, i, -1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	depth := make(map[int]int) // of the rules whose networks are open
	var open []int
	sets := make(map[string]int)
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			depth[edges[i].rule] += edges[i].by
			k, found := slices.BinarySearch(open, edges[i].rule)
			switch now := depth[edges[i].rule]; {
			case now > 0 && !found:
				open = slices.Insert(open, k, edges[i].rule)
			case now == 0 && found:
				open = slices.Delete(open, k, k+1)
			}
		}
		if len(open) == 0 {
			continue
		}
		last := nft.LastAddr(netip.PrefixFrom(at, 0))
		if i < len(edges) {
			last = edges[i].at.Prev()
		}
		l.networks[f] = append(l.networks[f], network{at, last, l.setOf(sets, open)})
	}
}

// setOf returns the number of a set of rules.
func (l *List) setOf(known map[string]int, rules []int) int {
	key := string(appendInts(nil, rules))
	n, found := known[key]
	if !found {
		n = len(l.sets)
		known[key], l.sets = n, append(l.sets, slices.Clone(rules))
	}
	return n
}

// nowhere is the set of rules of an address that is in no network.
const nowhere = -1

// at returns which of the sets of rules of networks is that of an address.
func (l *List) at(a netip.Addr) int {
	all := l.networks[nft.FamilyOf(a)]
	i, _ := slices.BinarySearchFunc(all, a, func(n network, a netip.Addr) int { return n.last.Compare(a) })
	if i == len(all) || a.Less(all[i].first) {
		return nowhere
	}
	return all[i].set
}

// match is a rule that matches an address, and the ports at which it does.
type match struct {
	rule  int
	ports spec.Ports
}

// matches returns the rules for an address in their order: those for every address, those of its pod, with the numbers
// that names of ports have in it, and those of a set of networks.
func (l *List) matches(pod []int, set int, ports []policy.NamedPort) []match {
	all := make(map[int]spec.Ports)
	for _, i := range l.always {
		all[i] = l.rules[i].Ports
	}
	if set != nowhere {
		for _, i := range l.sets[set] {
			all[i] = l.rules[i].Ports
		}
	}
	for _, i := range pod {
		all[i] = Resolve(l.rules[i].ClusterRule, ports)
	}
	matches := make([]match, 0, len(all))
	for i, ports := range all {
		matches = append(matches, match{i, ports})
	}
	slices.SortFunc(matches, func(a, b match) int { return cmp.Compare(a.rule, b.rule) })
	return matches
}

// Resolve returns the ports of a rule where its names of ports are those of a pod.
func Resolve(r spec.ClusterRule, pod []policy.NamedPort) spec.Ports {
	ports := []spec.Ports{r.Ports}
	for _, have := range pod {
		if slices.Contains(r.Named, have.Name) {
			number := nft.PortRange{Proto: have.Proto, First: have.Number, Last: have.Number}
			ports = append(ports, spec.Ports{Ranges: nft.Ports{number}})
		}
	}
	return spec.Union(ports...)
}

// Exceeds says whether addresses of no pod take more elements than a limit: of networks, and of ports for each distinct
// set of rules that networks have. It makes none of them.
func (l *List) Exceeds(limit int) bool {
	n := 0
	for _, f := range nft.Families() {
		n += len(l.networks[f])
	}
	for set := nowhere; set < len(l.sets); set++ {
		for _, m := range l.matches(nil, set, nil) {
			if m.ports.Every {
				break
			}
			n += len(m.ports.Ranges)
		}
		if n > limit {
			return true
		}
	}
	return false
}

// none is the verdict of what no rule decides.
func (l *List) none() nft.Verdict {
	if l.Tier == frame.Admin {
		return nft.Verdict{Kind: nft.Return}
	}
	return frame.Allow(l.Direction)
}

// verdict is that of a rule.
func (l *List) verdict(rule int) nft.Verdict {
	switch r := l.rules[rule]; r.Action {
	case spec.Accept:
		return frame.Allow(l.Direction)
	case spec.Deny:
		return nft.GotoChain(l.ref(rule).Chain())
	}
	return l.none()
}

// ref names a rule.
func (l *List) ref(rule int) frame.TierRule {
	r := l.rules[rule]
	return frame.TierRule{Tier: l.Tier, Direction: l.Direction, Policy: r.Policy, Index: r.Index}
}
