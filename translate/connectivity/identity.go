// SPDX-License-Identifier: Apache-2.0

package connectivity

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

	"github.com/netpold/netpold/translate/policy"
)

// identity is pods that no policy can tell apart but by their addresses. Nil, as what has no identity, is a node or an
// outside address.
type identity struct {
	pod   *policy.Pod                // one of them
	ports []policy.NamedPort         // whose names any rule has
	over  [2]map[policy.RuleRef]bool // rules that are over a limit
}

// identities returns the identities of pods, those of a namespace one after the other, and the number of that of each
// pod by its index: -1 of one in the host network.
func identities(c *policy.Cluster, r *rules) (all []*identity, of []int) {
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
		of[i] = number(ids, identityKey(p, over), func() {
			id := &identity{pod: p, ports: r.portNames(p)}
			for _, e := range over {
				if id.over[e.Direction] == nil {
					id.over[e.Direction] = make(map[policy.RuleRef]bool)
				}
				for _, rule := range e.Rules {
					id.over[e.Direction][rule.RuleRef] = true
				}
			}
			all = append(all, id)
		})
	}
	return all, of
}

// identityKey returns what is equal for pods of one identity.
func identityKey(p *policy.Pod, over []policy.PodExcess) string {
	key := strconv.AppendQuote(nil, p.Namespace)
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		key = strconv.AppendQuote(strconv.AppendQuote(key, k), p.Labels[k])
	}
	for _, port := range p.Ports {
		key = fmt.Appendf(key, "/%q%d.%d", port.Name, port.Proto, port.Number)
	}
	for _, e := range over {
		key = fmt.Appendf(key, "//%d%v", e.Direction, e.Rules)
	}
	return string(key)
}

// labelIndex finds the identities of a namespace, which have all numbers from one to before another, by their labels.
type labelIndex struct {
	from, to int
	values   map[string]map[string][]int
}

// indexLabels returns the index of each namespace.
func indexLabels(all []*identity) map[string]*labelIndex {
	index := make(map[string]*labelIndex)
	for i, id := range all {
		x := index[id.pod.Namespace]
		if x == nil {
			x = &labelIndex{from: i, values: make(map[string]map[string][]int)}
			index[id.pod.Namespace] = x
		}
		x.to = i + 1
		for k, v := range id.pod.Labels {
			if x.values[k] == nil {
				x.values[k] = make(map[string][]int)
			}
			x.values[k][v] = append(x.values[k][v], i)
		}
	}
	return index
}

// match returns the identities that a selector matches.
func (s selector) match(c *policy.Cluster, in map[string]*labelIndex) bitset {
	if s.namespaces == nil {
		if x := in[s.namespace]; x != nil {
			return x.match(s.pods)
		}
		return bitset{}
	}
	var matched bitset
	for name, set := range c.Namespaces {
		if x := in[name]; x != nil && s.namespaces.Matches(labels.Set(set)) {
			matched.unite(x.match(s.pods))
		}
	}
	return matched
}

// match returns the identities whose labels a selector matches.
func (x *labelIndex) match(s labels.Selector) bitset {
	requirements, selectable := s.Requirements()
	if !selectable {
		return bitset{}
	}
	matched := allBits(x.from, x.to)
	for _, r := range requirements {
		var have bitset
		add := func(some []int) {
			for _, i := range some {
				have.add(i)
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
			matched.subtract(have)
		default: // a label selector has no operators but these and their opposites
			matched.intersect(have)
		}
	}
	return matched
}

// place is an address in use, and whose it is.
type place struct {
	addr netip.Addr
	pod  int // its index, also of one in the host network
}

// places returns the addresses of all pods, each with the one pod that has it, and those of pods in the host network
// that are no pod's own, sorted by address.
func places(c *policy.Cluster) []place {
	owner := make(map[netip.Addr]int)
	var all []place
	for i := range c.Pods {
		for _, a := range c.Pods[i].IPs {
			j, claimed := owner[a]
			if !c.Pods[i].HostNetwork && (!claimed || precedes(&c.Pods[i], &c.Pods[j])) {
				owner[a] = i
			}
		}
	}
	for a, i := range owner {
		all = append(all, place{a, i})
	}
	for i := range c.Pods {
		if !c.Pods[i].HostNetwork {
			continue
		}
		for _, a := range c.Pods[i].IPs {
			if _, owned := owner[a]; !owned {
				all = append(all, place{a, i})
			}
		}
	}
	slices.SortFunc(all, func(x, y place) int { return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.pod, y.pod)) })
	return all
}

// precedes says whether of two pods that claim one address p has it: not one that terminates, then the newest, then one
// that runs.
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
