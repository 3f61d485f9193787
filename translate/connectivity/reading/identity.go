// SPDX-License-Identifier: Apache-2.0

package reading

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity/sets"
	"github.com/netpold/netpold/translate/policy"
)

// Identity is a set of pods that policies can distinguish only by address. Nil stands for nodes and outside addresses.
type Identity struct {
	Pod   *policy.Pod                // one of them
	Ports []policy.NamedPort         // those that any rule names
	Over  [2]map[policy.RuleRef]bool // rules that are over a limit
}

// Identities returns the identities of pods, grouped by namespace, and for each pod the index of its identity; -1 in
// the host network.
func Identities(c *policy.Cluster, r *Rules) (all []*Identity, of []int) {
	excess := make(map[types.NamespacedName][]policy.PodExcess)
	for _, e := range c.OverLimit {
		if !e.Audit {
			excess[e.Pod] = append(excess[e.Pod], e)
		}
	}
	order := make([]int, len(c.Pods))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(c.Pods[i].Namespace, c.Pods[j].Namespace) })
	ids, of := make(map[string]int), make([]int, len(c.Pods))
	for _, i := range order {
		p := &c.Pods[i]
		if p.HostNetwork {
			of[i] = -1
			continue
		}
		over := excess[p.NamespacedName]
		of[i] = sets.Number(ids, identityKey(p, over), func() {
			id := &Identity{Pod: p, Ports: r.portNames(p)}
			for _, e := range over {
				if id.Over[e.Direction] == nil {
					id.Over[e.Direction] = make(map[policy.RuleRef]bool)
				}
				for _, rule := range e.Rules {
					id.Over[e.Direction][rule.RuleRef] = true
				}
			}
			all = append(all, id)
		})
	}
	return all, of
}

// identityKey returns a key that is equal for pods of one identity.
func identityKey(p *policy.Pod, over []policy.PodExcess) string {
	key := strconv.AppendQuote(nil, p.Namespace)
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		key = fmt.Appendf(key, "%q%q", k, p.Labels[k]) // strconv.AppendQuote copies all of key each time
	}
	for _, port := range p.Ports {
		key = fmt.Appendf(key, "/%q%d.%d", port.Name, port.Proto, port.Number)
	}
	for _, e := range over {
		key = fmt.Appendf(key, "//%d%v", e.Direction, e.Rules)
	}
	return string(key)
}

// LabelIndex finds the identities of a namespace, which have consecutive numbers, by their labels.
type LabelIndex struct {
	from, to int
	values   map[string]map[string][]int
}

// IndexLabels returns the index of each namespace.
func IndexLabels(all []*Identity) map[string]*LabelIndex {
	index := make(map[string]*LabelIndex)
	for i, id := range all {
		x := index[id.Pod.Namespace]
		if x == nil {
			x = &LabelIndex{from: i, values: make(map[string]map[string][]int)}
			index[id.Pod.Namespace] = x
		}
		x.to = i + 1
		for k, v := range id.Pod.Labels {
			if x.values[k] == nil {
				x.values[k] = make(map[string][]int)
			}
			x.values[k][v] = append(x.values[k][v], i)
		}
	}
	return index
}

// Match returns the identities that a selector matches.
func (s selector) Match(c *policy.Cluster, in map[string]*LabelIndex) sets.Bitset {
	if s.Namespaces == nil {
		if x := in[s.Namespace]; x != nil {
			return x.match(s.pods)
		}
		return sets.Bitset{}
	}
	var matched sets.Bitset
	for name, set := range c.Namespaces {
		if x := in[name]; x != nil && s.Namespaces.Matches(labels.Set(set)) {
			matched.Unite(x.match(s.pods))
		}
	}
	return matched
}

// match returns the identities whose labels a selector matches.
func (x *LabelIndex) match(s labels.Selector) sets.Bitset {
	requirements, selectable := s.Requirements()
	if !selectable {
		return sets.Bitset{}
	}
	matched := sets.AllBits(x.from, x.to)
	for _, r := range requirements {
		var have sets.Bitset
		add := func(some []int) {
			for _, i := range some {
				have.Add(i)
			}
		}
		switch values := x.values[r.Key()]; r.Operator() {
		case selection.Exists, selection.DoesNotExist:
			for _, some := range values {
				add(some)
			}
		default:
			for v := range r.Values() {
				add(values[v])
			}
		}
		switch r.Operator() {
		case selection.NotIn, selection.NotEquals, selection.DoesNotExist:
			matched.Subtract(have)
		default: // label selectors have only these operators and their opposites
			matched.Intersect(have)
		}
	}
	return matched
}

// Place is an address in use, with its owner.
type Place struct {
	Addr netip.Addr
	Pod  int // index of the pod, even in the host network
}

// Places returns the addresses of all pods, each with its one owner, and host-network addresses that no pod owns,
// sorted by address.
func Places(c *policy.Cluster) []Place {
	owner := make(map[netip.Addr]int)
	var all []Place
	for i := range c.Pods {
		for _, a := range c.Pods[i].IPs {
			j, claimed := owner[a]
			if !c.Pods[i].HostNetwork && (!claimed || precedes(&c.Pods[i], &c.Pods[j])) {
				owner[a] = i
			}
		}
	}
	for a, i := range owner {
		all = append(all, Place{a, i})
	}
	for i := range c.Pods {
		if !c.Pods[i].HostNetwork {
			continue
		}
		for _, a := range c.Pods[i].IPs {
			if _, owned := owner[a]; !owned {
				all = append(all, Place{a, i})
			}
		}
	}
	slices.SortFunc(all, func(x, y Place) int { return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Pod, y.Pod)) })
	return all
}

// precedes says whether p rather than q owns an address that both claim: one that is not terminating, then the newest,
// then a running one.
func precedes(p, q *policy.Pod) bool {
	last := func(put bool) int {
		if put {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(last(p.Terminating), last(q.Terminating)),
		q.Created.Compare(p.Created),
		cmp.Compare(last(!p.Running), last(!q.Running)),
		cmp.Compare(p.String(), q.String())) < 0
}

// Covers returns, for each of the places, which must be sorted by address, the index of its cover: the set of blocks
// that contain it. Equal covers are there once.
func (r *Rules) Covers(all []Place) (of []int, covers []sets.Bitset) {
	type edge struct {
		at    netip.Addr
		block int
	}
	var edges []edge // starts and ends
	for b, networks := range r.Blocks {
		for _, s := range networks {
			edges = append(edges, edge{s.First, b})
			if after := s.Last.Next(); after.IsValid() {
				edges = append(edges, edge{after, b})
			}
		}
	}
	slices.SortFunc(edges, func(x, y edge) int { return x.at.Compare(y.at) })
	of = make([]int, len(all))
	ids := make(map[string]int)
	var active sets.Bitset
	active.MakeRoom(0, len(r.Blocks)>>6+1)
	changed, last, family := true, 0, sets.IPv4 // of the previous place
	for i, p := range all {
		if f := sets.FamilyOf(p.Addr); f != family { // a block up to the end of the other family has no edge there
			for len(edges) > 0 && sets.FamilyOf(edges[0].at) != f {
				edges = edges[1:]
			}
			active.Clear()
			family, changed = f, true
		}
		for ; len(edges) > 0 && !p.Addr.Less(edges[0].at); edges = edges[1:] {
			active.Flip(edges[0].block)
			changed = true
		}
		if changed {
			last, changed = sets.Number(ids, active.Key(), func() { covers = append(covers, active.Clone()) }), false
		}
		of[i] = last
	}
	return of, covers
}
