// SPDX-License-Identifier: Apache-2.0

package content

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// rule is a rule of a policy in an isolation.
type rule[S comparable] struct {
	spec.Rule
	policy   int // of the isolation's
	resolved []S // selectors of its peers, as far as they were looked at
}

// elements counts what a rule demands: elements for each address that a selector matches, and elements that do not
// depend on pods. Up to 8 single ports are each an element for each address; more are a set of their own, and one
// element. A CIDR and a port of such a set are two: the kernel has an element for each end of an interval. What two
// rules demand counts twice, even if it becomes one.
func (r rule[S]) elements() (each, fixed int) {
	ports := r.Ports.Open
	switch {
	case opening.Exact(ports):
		each = len(ports.Ranges)
	case !ports.Empty():
		each, fixed = 1, 2*len(ports.Ranges)
	}
	if !ports.Empty() {
		fixed += 2 * r.cidrs()
	}
	return each + len(r.Ports.Named), fixed
}

// cidrs counts the CIDRs of the rule's ipBlocks.
func (r rule[S]) cidrs() int {
	n := 0
	for _, b := range r.Blocks {
		n += 1 + len(b.Except)
	}
	return n
}

// peers returns the peers that a rule opens anything to. A rule for any peer opens named ports on the pods that have
// them.
func (r rule[S]) peers() []spec.Peer {
	switch {
	case r.AnyPeer && len(r.Ports.Named) > 0:
		return []spec.Peer{{Pods: labels.Everything()}}
	case r.AnyPeer, r.Ports.Open.Empty() && len(r.Ports.Named) == 0:
		return nil
	}
	return r.Peers
}

// admission is what the rules of an isolation are granted.
type admission[S comparable] struct {
	Question[S]
	demand   Demand[S]
	admitted []rule[S]
	rest     []rule[S] // over the limit of elements; their selectors are still watched, as they may match less one day
	blocks   []opening.Range
}

// admit checks the rules of an isolation against the limits.
func admit[S comparable](q Question[S]) admission[S] {
	a := admission[S]{Question: q, demand: Demand[S]{Each: make(map[S]int), Budget: q.Budget}}
	rules := a.written()
	everything := func(r rule[S]) bool { return r.AnyPeer && r.Ports.Open.Every }
	if i := slices.IndexFunc(rules, everything); i >= 0 { // no other rule adds to it, and it costs nothing
		a.admitted = rules[i : i+1]
		return a
	}
	a.counted(rules)
	a.cut()
	slices.SortFunc(a.demand.Over, func(x, y policy.Excess) int {
		return cmp.Or(cmp.Compare(x.Policy.Name, y.Policy.Name), cmp.Compare(x.Index, y.Index))
	})
	return a
}

// exceed notes that a rule is over a limit.
func (a *admission[S]) exceed(r rule[S], format string, args ...any) {
	ref := policy.RuleRef{Policy: a.Policies[r.policy], Direction: a.Kind.Direction, Index: r.Index}
	a.demand.Over = append(a.demand.Over, policy.Excess{RuleRef: ref, Reason: fmt.Sprintf(format, args...)})
}

// written returns the rules that are within the limits on their text.
func (a *admission[S]) written() []rule[S] {
	var rules []rule[S]
	selectors, blocks := AtMost(a.Limits.Selectors), AtMost(a.Limits.Blocks)
	for i, written := range a.Rules {
		r := rule[S]{Rule: written, policy: i}
		switch {
		case r.policy >= AtMost(a.Limits.Policies):
			a.exceed(r, "more than %d policies for one pod", a.Limits.Policies)
		case len(r.Ports.Open.Ranges) > AtMost(a.Limits.Ports):
			a.exceed(r, "%d ports, more than %d in a rule", len(r.Ports.Open.Ranges), a.Limits.Ports)
		case len(r.Peers) > selectors:
			a.exceed(r, "more than %d selectors in the rules for one pod", a.Limits.Selectors)
		case r.cidrs() > blocks:
			a.exceed(r, "more than %d CIDRs in the rules for one pod", a.Limits.Blocks)
		default:
			selectors, blocks = selectors-len(r.Peers), blocks-r.cidrs()
			rules = append(rules, r)
		}
	}
	return rules
}

// counted admits the rules that are within the limit of elements. Once the demand exceeds twice that, the selectors of
// the remaining rules are not evaluated: each may match all pods.
func (a *admission[S]) counted(rules []rule[S]) {
	free := a.free(rules)
	left, enough := a.demand.Budget, NoLimit
	if left < NoLimit/2 {
		enough = 2 * left
	}
	for _, r := range rules {
		each, elements := r.elements()
		whole := true // whether all its selectors were looked at
		for _, peer := range r.peers() {
			isFree := len(r.Ports.Named) == 0 && peer.Whole() && slices.Contains(free, peer.String())
			if whole = isFree || a.demand.Elements+elements <= enough; !whole {
				break
			}
			sel := a.Pods.Selector(peer)
			r.resolved = append(r.resolved, sel)
			if !isFree {
				if _, again := a.demand.Each[sel]; !again {
					elements += a.Limits.SelectorCost
				}
				a.demand.Each[sel] += each
				elements += each * a.Pods.Addresses(sel)
			}
		}
		a.demand.Elements += elements
		if !whole || elements > left {
			reason := "%d elements, more than is left of %d for one pod"
			if !whole {
				reason = "more than %d elements, with the rules before it, where there are %d for one pod"
				elements = enough
			}
			a.exceed(r, reason, elements, a.demand.Budget)
			a.rest = append(a.rest, r)
			continue
		}
		left -= elements
		a.admitted = append(a.admitted, r)
	}
}

// free returns the keys of the selectors of whole namespaces that take no elements of the isolation if all rules are
// admitted: of those that the namespace shares, the first by [Pods.Compare].
func (a *admission[S]) free(rules []rule[S]) []string {
	everywhere := spec.Peer{Namespaces: labels.Everything(), Pods: labels.Everything()}.String()
	shared, whole := a.Shared, make(map[string]struct{})
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

// cut cuts the blocks of the admitted rules into ranges. If these are too many, it leaves out the last rules.
func (a *admission[S]) cut() {
	var rules []rule[S]
	for _, r := range a.admitted {
		if len(r.Blocks) > 0 && !r.Ports.Open.Empty() { // a port's name means nothing at an address
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
		a.exceed(r, "overlapping ipBlocks and ports expand to more than %d elements", a.demand.Budget)
		i := slices.IndexFunc(a.admitted, func(have rule[S]) bool {
			return have.policy == r.policy && have.Index == r.Index
		})
		a.admitted = slices.Delete(a.admitted, i, i+1)
		a.rest = append(a.rest, r)
	}
}

// blocksOf returns the ranges of the rules' blocks, and whether they are within the limit.
func (a *admission[S]) blocksOf(rules []rule[S]) ([]opening.Range, bool) {
	blocks := make(map[nft.Family][]opening.Block)
	for _, r := range rules {
		for _, b := range r.Blocks {
			blocks[b.Family] = append(blocks[b.Family], opening.Block{Block: b, Ports: r.Ports.Open})
		}
	}
	var ranges []opening.Range
	for _, f := range nft.Families() {
		cut, ok := opening.Cut(a.Kind, f, blocks[f], a.demand.Budget)
		if !ok {
			return nil, false
		}
		ranges = append(ranges, cut...)
	}
	return ranges, true
}
