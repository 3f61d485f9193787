// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Rule is a rule of a list. Its port names are resolved by the peers, and its nodes are among its networks.
type Rule struct {
	spec.ClusterRule
	Policy string
}

// Place is where a list counts.
type Place struct {
	Tier      frame.Tier
	Direction policy.Direction
}

// List is the rules of a tier for a kind of pod in a direction, in order of evaluation.
type List struct {
	Place
	rules    []Rule
	names    []string // port names in rules
	bounds   Bounds   // on its size
	frame    Verdicts // how it denies
	always   []int    // rules for every address
	fixed    int      // weight of the classes of addresses without pods
	over     bool     // fixed is beyond the bounds: there are no sets
	sets     [][]int  // the distinct sets of rules of networks
	networks map[nft.Family][]network
}

// Verdicts are how a list denies.
type Verdicts struct {
	Tail   func(frame.TierRule) []nft.Rule // the rules of the chain of a rule that denies
	Refuse []nft.Rule                      // deny everything, by no rule in particular
}

// Bounds limit the size of a list.
type Bounds struct {
	Elements int // of networks and ports, as classes; beyond, rules are checked one after the other
	Pods     int // pod addresses in the list's maps; beyond, the same
	Rules    int // rules of such a sequential chain; beyond, everything is denied
	Ports    int // networks and ports of such rules; beyond, everything is denied
}

// DefaultBounds are ample for what administrators write. Larger changes would hold up the kernel, and others that
// change rules, for too long.
func DefaultBounds() Bounds {
	return Bounds{Elements: 50_000, Pods: 50_000, Rules: 5000, Ports: 200_000}
}

// OrDefault returns the default bounds if b is zero.
func (b Bounds) OrDefault() Bounds {
	if b == (Bounds{}) {
		return DefaultBounds()
	}
	return b
}

// rulesAnElement is how many rules each interval of networks may have on average, at the maximum number of elements.
// Weighing more takes seconds, and nearly always ends in too much.
const rulesAnElement = 40

// network is addresses that lie in the networks of the same rules.
type network struct {
	opening.Piece
	set int // of sets
}

// New returns the list of rules, which the caller must not change afterwards.
func New(at Place, rules []Rule, v Verdicts, bounds Bounds) *List {
	l := &List{Place: at, rules: rules, frame: v, bounds: bounds, networks: make(map[nft.Family][]network)}
	for i, r := range rules {
		l.names = append(l.names, r.Named...)
		if r.All {
			l.always = append(l.always, i)
		}
	}
	known := make(map[string]int)
	l.fixed = l.weigh(nil, nowhere, nil)
	looked := 0
	for _, f := range nft.Families() {
		for piece, in := range networks(rules, f) {
			looked += len(in)
			if l.fixed++; l.fixed > bounds.Elements || looked > rulesAnElement*bounds.Elements {
				l.over, l.sets, l.networks = true, nil, nil
				return l
			}
			l.networks[f] = append(l.networks[f], network{piece, l.setOf(known, in)})
		}
	}
	return l
}

// networks yields the disjoint pieces into which the networks of a family are cut, in ascending order, each with the
// rules whose networks contain it. The slice of rules is reused.
func networks(rules []Rule, f nft.Family) iter.Seq2[opening.Piece, []int] {
	var spans []opening.Span
	for i, r := range rules {
		for _, n := range r.Networks {
			if nft.FamilyOf(n.Addr()) == f {
				spans = append(spans, opening.SpanOf(n, i))
			}
		}
	}
	return opening.Pieces(spans)
}

// setOf returns the number of a set of rules. A new one adds to the list's weight.
func (l *List) setOf(known map[string]int, rules []int) int {
	key := opening.IntsKey(rules)
	n, found := known[key]
	if !found {
		n = len(l.sets)
		known[key], l.sets = n, append(l.sets, slices.Clone(rules))
		l.fixed += l.weigh(nil, n, nil)
	}
	return n
}

// nowhere is the set of rules of an address that is in no network.
const nowhere = -1

// at returns the set of rules whose networks contain an address.
func (l *List) at(a netip.Addr) int {
	all := l.networks[nft.FamilyOf(a)]
	i, _ := slices.BinarySearchFunc(all, a, func(n network, a netip.Addr) int { return n.Last.Compare(a) })
	if i == len(all) || a.Less(all[i].First) {
		return nowhere
	}
	return all[i].set
}

// match is a rule that matches an address, with the ports at which it does.
type match struct {
	rule  int
	ports spec.Ports
}

// matches returns the rules for an address in order: those for every address, those for its pod, with port names
// resolved in it, and those of a set of networks. A rule matches every port that it does as either.
func (l *List) matches(pod []int, set int, ports []policy.NamedPort) []match {
	all := slices.Concat(l.always, pod)
	if set != nowhere {
		all = append(all, l.sets[set]...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	matches := make([]match, len(all))
	for i, rule := range all {
		matches[i] = match{rule, l.rules[rule].Ports}
	}
	for _, rule := range pod {
		if len(l.rules[rule].Named) > 0 {
			at, _ := slices.BinarySearch(all, rule)
			matches[at].ports = resolve(l.rules[rule].ClusterRule, ports)
		}
	}
	return matches
}

// resolve returns the ports of a rule with its port names resolved in a pod.
func resolve(r spec.ClusterRule, pod []policy.NamedPort) spec.Ports {
	ports := []spec.Ports{r.Ports}
	for _, have := range pod {
		if slices.Contains(r.Named, have.Name) {
			number := nft.PortRange{Proto: have.Proto, First: have.Number, Last: have.Number}
			ports = append(ports, spec.Ports{Ranges: nft.Ports{number}})
		}
	}
	return spec.Union(ports...)
}

// weigh counts roughly the elements of a class, see [List.class].
func (l *List) weigh(pod []int, set int, ports []policy.NamedPort) int {
	n := 1
	for _, m := range l.matches(pod, set, ports) {
		if m.ports.Every {
			break
		}
		n += len(m.ports.Ranges)
	}
	return n
}

// none is the verdict for what no rule decides.
func (l *List) none() nft.Verdict {
	if l.Tier.Enforced() == frame.Admin {
		return nft.Verdict{Kind: nft.Return}
	}
	return l.Tier.Allow(l.Direction)
}

// verdict returns the verdict of a rule.
func (l *List) verdict(rule int) nft.Verdict {
	switch r := l.rules[rule]; r.Action {
	case spec.Accept:
		return l.Tier.Allow(l.Direction)
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
