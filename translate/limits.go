// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Limits bound what policies may ask of a node. What is beyond them allows nothing, and isolates all the same. Policies
// are taken by name and rules in their order: a rule that does not fit into what is left of a limit is left out as a
// whole. Zero is no limit.
type Limits struct {
	Policies  int // that isolate one pod in one direction
	Ports     int // of a rule: distinct ports and port ranges
	Selectors int // of an isolation
	Blocks    int // CIDRs of an isolation's ipBlocks, those of except too
	Elements  int // of an isolation: see [rule.elements]
	Namespace int // elements of all isolations of a namespace, which get them in the order of their keys
}

// DefaultLimits are far beyond what policies are written for, and together what the memory limit of the DaemonSet has
// room for.
func DefaultLimits() Limits {
	return Limits{Policies: 5000, Ports: 50_000, Selectors: 2000, Blocks: 10_000, Elements: 200_000, Namespace: 500_000}
}

// demand is what the rules of an isolation ask for, and what they get.
type demand struct {
	elements int               // that all rules ask for, the excess too
	each     map[*selector]int // how many of them for each address that a selector matches
	budget   int               // elements that were allowed when the isolation was built
	over     []policy.Excess
}

// noLimit is the budget without a limit.
const noLimit = math.MaxInt

// atMost returns a limit as a budget.
func atMost(limit int) int {
	if limit == 0 {
		return noLimit
	}
	return limit
}

// elements counts what a rule asks for: elements for each address that a selector matches, and those that do not depend
// on pods. Of up to 8 single ports each is an element for each address; more are a set of their own, and an element. A
// CIDR is one. What two rules ask for counts twice, though it may become one.
func (r rule) elements() (each, fixed int) {
	ports := r.Ports.Open
	switch {
	case opening.Exact(ports):
		each = len(ports.Ranges)
	case !ports.Empty():
		each, fixed = 1, len(ports.Ranges)
	}
	if !ports.Empty() {
		fixed += r.cidrs()
	}
	return each + len(r.Ports.Named), fixed
}

// cidrs counts the CIDRs of the rule's ipBlocks.
func (r rule) cidrs() int {
	n := 0
	for _, b := range r.Blocks {
		n += 1 + len(b.Except)
	}
	return n
}

// admission is what the rules of an isolation get.
type admission struct {
	s        *State
	iso      *isolation
	limits   Limits
	demand   demand
	admitted []rule
	rest     []rule // over the limit of elements; what their selectors match is watched, for it may be less some day
	blocks   []opening.Range
}

// admit holds the rules of an isolation against the limits.
func (s *State) admit(iso *isolation) admission {
	a := admission{s: s, iso: iso, limits: s.options.Limits}
	a.demand.each = make(map[*selector]int)
	a.demand.budget = s.budgetOf(iso)
	rules := a.written()
	everything := func(r rule) bool { return r.AnyPeer && r.Ports.Open.Every }
	if i := slices.IndexFunc(rules, everything); i >= 0 { // nothing adds to it, and it costs nothing
		a.admitted = rules[i : i+1]
		return a
	}
	a.counted(rules)
	a.cut()
	slices.SortFunc(a.demand.over, func(x, y policy.Excess) int {
		return cmp.Or(cmp.Compare(x.Policy.Name, y.Policy.Name), cmp.Compare(x.Index, y.Index))
	})
	return a
}

// exceed notes that a rule is over a limit.
func (a *admission) exceed(r rule, format string, args ...any) {
	ref := policy.RuleRef{Policy: a.iso.policies[r.policy], Direction: a.iso.kind.Direction, Index: r.Index}
	a.demand.over = append(a.demand.over, policy.Excess{RuleRef: ref, Reason: fmt.Sprintf(format, args...)})
}

// written returns the rules that are within the limits of what is written in them.
func (a *admission) written() []rule {
	var rules []rule
	selectors, blocks := atMost(a.limits.Selectors), atMost(a.limits.Blocks)
	for r := range a.iso.rules(a.s) {
		switch {
		case r.policy >= atMost(a.limits.Policies):
			a.exceed(r, "more than %d policies for one pod", a.limits.Policies)
		case len(r.Ports.Open.Ranges) > atMost(a.limits.Ports):
			a.exceed(r, "%d ports, more than %d in a rule", len(r.Ports.Open.Ranges), a.limits.Ports)
		case len(r.Peers) > selectors:
			a.exceed(r, "more than %d selectors in the rules for one pod", a.limits.Selectors)
		case r.cidrs() > blocks:
			a.exceed(r, "more than %d CIDRs in the rules for one pod", a.limits.Blocks)
		default:
			selectors, blocks = selectors-len(r.Peers), blocks-r.cidrs()
			rules = append(rules, r)
		}
	}
	return rules
}

// counted admits the rules that are within the limit of elements. Where all ask for more than twice that, what the
// selectors of the last ones match is not found out: it may be all pods for each of them.
func (a *admission) counted(rules []rule) {
	free := a.free(rules)
	left, enough := a.demand.budget, noLimit
	if left < noLimit/2 {
		enough = 2 * left
	}
	for _, r := range rules {
		each, elements := r.elements()
		whole := true // all its selectors were looked at
		for _, peer := range r.peers() {
			isFree := len(r.Ports.Named) == 0 && peer.Whole() && slices.Contains(free, peer.String())
			if whole = isFree || a.demand.elements+elements <= enough; !whole {
				break
			}
			sel := a.s.selectorOf(peer)
			r.resolved = append(r.resolved, sel)
			if !isFree {
				a.demand.each[sel] += each
				elements += each * sel.Own.addresses
			}
		}
		a.demand.elements += elements
		if !whole || elements > left {
			reason := "%d elements, more than is left of %d for one pod"
			if !whole {
				reason = "more than %d elements, with the rules before it, where there are %d for one pod"
				elements = enough
			}
			a.exceed(r, reason, elements, a.demand.budget)
			a.rest = append(a.rest, r)
			continue
		}
		left -= elements
		a.admitted = append(a.admitted, r)
	}
}

// free returns the keys of the selectors of whole namespaces that take no elements of the isolation, as long as all
// rules are admitted: the first ones by [bySelector], of those that the namespace shares.
func (a *admission) free(rules []rule) []string {
	everywhere := spec.Peer{Namespaces: labels.Everything(), Pods: labels.Everything()}.String()
	shared, whole := a.s.policies.Shared(a.iso.namespace()), make(map[string]struct{})
	for _, r := range rules {
		for _, peer := range r.peers() {
			key := peer.String()
			if peer.Whole() && !r.Ports.Open.Empty() && (!book.IsShared(peer) || slices.Contains(shared, key)) {
				whole[key] = struct{}{}
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(whole), func(x, y string) int {
		if x == everywhere || y != everywhere && x < y {
			return -1
		}
		return 1
	})
	return keys[:min(len(keys), maxLookedUp)]
}

// cut cuts the blocks of the admitted rules. If what they become is too much, the last ones are left out.
func (a *admission) cut() {
	var rules []rule
	for _, r := range a.admitted {
		if len(r.Blocks) > 0 && !r.Ports.Open.Empty() { // of an address a port's name is no number
			rules = append(rules, r)
		}
	}
	fits := func(n int) bool {
		var ok bool
		a.blocks, ok = a.blocksOf(rules[:n])
		return ok
	}
	if fits(len(rules)) {
		return
	}
	n := sort.Search(len(rules), func(n int) bool { return !fits(n + 1) })
	fits(n)
	for _, r := range rules[n:] {
		a.exceed(r, "overlapping ipBlocks and ports expand to more than %d elements", a.demand.budget)
		i := slices.IndexFunc(a.admitted, func(have rule) bool {
			return have.policy == r.policy && have.Index == r.Index
		})
		a.admitted = slices.Delete(a.admitted, i, i+1)
		a.rest = append(a.rest, r)
	}
}

// blocksOf returns what the blocks of rules become, and whether that is within the limit.
func (a *admission) blocksOf(rules []rule) ([]opening.Range, bool) {
	blocks := make(map[nft.Family][]opening.Block)
	for _, r := range rules {
		for _, b := range r.Blocks {
			blocks[b.Family] = append(blocks[b.Family], opening.Block{Block: b, Ports: r.Ports.Open})
		}
	}
	var ranges []opening.Range
	for _, f := range nft.Families() {
		cut, ok := opening.Cut(a.iso.kind, f, blocks[f], a.demand.budget)
		if !ok {
			return nil, false
		}
		ranges = append(ranges, cut...)
	}
	return ranges, true
}

// namespace is that of the isolation's policies.
func (iso *isolation) namespace() string { return iso.policies[0].Namespace }

// namespaceDemand is what the isolations of a namespace ask for.
type namespaceDemand struct {
	elements, isolations int
	squeezed             bool // isolations have less than they may have otherwise
}

// budgetOf returns how many elements an isolation may have.
func (s *State) budgetOf(iso *isolation) int { return atMost(s.options.Limits.Elements) - iso.short }

// setDemand replaces what an isolation asks for.
func (s *State) setDemand(iso *isolation, d demand) {
	old := iso.demand
	iso.demand = d
	if !slices.Equal(old.over, d.over) {
		s.troubleVersion++
		delete(s.overLimit, iso)
		if len(d.over) > 0 {
			s.overLimit[iso] = struct{}{}
		}
	}
	n := s.demands[iso.namespace()]
	if n == nil {
		n = new(namespaceDemand)
		s.demands[iso.namespace()] = n
	}
	n.elements += d.elements - old.elements
	if old.each == nil {
		n.isolations++
	}
	if d.each != nil {
		return
	}
	n.isolations--
	if n.isolations == 0 {
		delete(s.demands, iso.namespace())
	}
}

// addAddresses notes that a selector matches so many addresses more. An isolation that is over the limit, or was, is
// built anew, and each if the selector is wide from now on, or is no more.
func (s *State) addAddresses(sel *selector, n int) {
	before := s.wide(sel)
	sel.Own.addresses += n
	turned := s.wide(sel) != before
	if turned {
		maps.Copy(s.staleLists, sel.Own.lists)
	}
	for iso := range sel.Own.all() {
		before, more := iso.demand.elements, n*iso.demand.each[sel]
		iso.demand.elements += more
		n := s.demands[iso.namespace()]
		n.elements += more
		s.reckon = s.reckon || n.squeezed || n.elements > atMost(s.options.Limits.Namespace)
		if turned || max(before, before+more) > iso.demand.budget {
			s.dirtyIsolations[iso] = struct{}{}
		}
	}
}

// foresee gives an isolation that is to be built for the first time what its namespace has left for it, as far as its
// demands are known. What is over the limit of a namespace is not found out only to be thrown away.
func (s *State) foresee(iso *isolation) {
	each, left := atMost(s.options.Limits.Elements), atMost(s.options.Limits.Namespace)
	n := s.demands[iso.namespace()]
	if iso.demand.each != nil || n == nil || n.elements <= left {
		return
	}
	for _, have := range s.isolationsIn(iso.namespace()) {
		if have.key < iso.key {
			left -= min(left, each, have.demand.elements)
		}
	}
	iso.short, n.squeezed = each-min(each, left), true // rebudget looks at it again
}

// rebudget gives the isolations of a namespace what they ask for, in the order of their keys, until the limit of the
// namespace is used. Those that were built with another budget are built anew.
func (s *State) rebudget() {
	s.reckon = false
	each, all := atMost(s.options.Limits.Elements), atMost(s.options.Limits.Namespace)
	for namespace, n := range s.demands {
		over := n.elements > all
		if !over && !n.squeezed {
			continue
		}
		n.squeezed = over
		left := all
		for _, iso := range s.isolationsIn(namespace) {
			iso.short = 0
			if over {
				iso.short = each - min(each, left)
				left -= min(left, each, iso.demand.elements)
			}
			if iso.demand.budget != each-iso.short {
				s.dirtyIsolations[iso] = struct{}{}
			}
		}
	}
}

// isolationsIn returns the isolations of a namespace that are built and have pods, in the order of their keys.
func (s *State) isolationsIn(namespace string) []*isolation {
	var all []*isolation
	for _, iso := range s.isolations {
		if iso.demand.each != nil && len(iso.users) > 0 && iso.namespace() == namespace {
			all = append(all, iso)
		}
	}
	slices.SortFunc(all, func(a, b *isolation) int { return strings.Compare(a.key, b.key) })
	return all
}

// excessOf returns what is over a limit of a pod.
func (s *State) excessOf(p *pod) []policy.PodExcess {
	var all []policy.PodExcess
	for _, d := range policy.Directions() {
		if iso := p.Identity.Own.isolations[d]; iso != nil && len(iso.demand.over) > 0 && s.index.IsLocal(p) {
			all = append(all, policy.PodExcess{Pod: p.Public().NamespacedName, Direction: d, Rules: iso.demand.over})
		}
	}
	return all
}

// OverLimit returns what is over a limit of all pods of the node.
func (s *State) OverLimit() []policy.PodExcess {
	var all []policy.PodExcess
	for iso := range s.overLimit {
		for id := range iso.users {
			for _, p := range id.Local {
				all = append(all, policy.PodExcess{Pod: p.Public().NamespacedName, Direction: iso.kind.Direction,
					Rules: iso.demand.over})
			}
		}
	}
	return all
}

// overLimits yields a trouble for each policy that has rules over a limit, and each isolation.
func (s *State) overLimits(yield func(Trouble) bool) bool {
	for iso := range s.overLimit {
		byPolicy := make(map[types.NamespacedName][]policy.Excess)
		for _, e := range iso.demand.over {
			byPolicy[e.Policy] = append(byPolicy[e.Policy], e)
		}
		for _, name := range slices.SortedFunc(maps.Keys(byPolicy), func(a, b types.NamespacedName) int {
			return cmp.Compare(a.Name, b.Name)
		}) {
			rules := byPolicy[name]
			reason := fmt.Sprintf("spec.%s[%d]: %s", rules[0].Direction, rules[0].Index, rules[0].Reason)
			if n := len(rules) - 1; n > 0 {
				reason += fmt.Sprintf(", and %d more rules", n)
			}
			if !yield(Trouble{OverLimit, []types.NamespacedName{name}, reason}) {
				return false
			}
		}
	}
	return true
}
