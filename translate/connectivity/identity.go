// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// identity is pods that no policy can tell apart but by their addresses. Nil, as what has no identity, is a node or an
// outside address.
type identity struct {
	pod        *policy.Pod // one of them
	selectors  []int       // that match, ascending
	isolations [2]*isolation
	tiers      [2][2]*tierList    // by direction and tier; nil where there is no rule
	ports      []policy.NamedPort // whose names any rule has
}

// isolation is one distinct set of policies that isolate pods in a direction. Ingress isolations of pods whose names of
// ports mean other numbers are several.
type isolation struct {
	direction policy.Direction
	policies  []*networkPolicy
	over      []policy.Excess    // rules that are over a limit
	ports     []policy.NamedPort // of the pods, for ingress
	grants    []portsID          // by class
	outside   map[family][]opening
}

// isolated is the isolations of a cluster by what makes them.
type isolated map[string]*isolation

// identify returns the identities of pods, and that of each pod that is not in the host network, by its index.
func identify(c *policy.Cluster, r *rules) (map[int]*identity, isolated) {
	of := make(map[int]*identity)
	byKey := make(map[string]*identity)
	byNamespace := make(map[string][]*identity)
	excess := make(map[types.NamespacedName][]policy.PodExcess)
	for _, e := range c.OverLimit {
		excess[e.Pod] = append(excess[e.Pod], e)
	}
	all := make(isolated)
	for i := range c.Pods {
		p := &c.Pods[i]
		if p.HostNetwork {
			continue
		}
		key := identityKey(p, excess[p.NamespacedName])
		id := byKey[key]
		if id == nil {
			id = &identity{pod: p, ports: r.portNames(p)}
			all.isolate(id, r, excess[p.NamespacedName])
			id.tiers = r.tierLists(c, id)
			byKey[key] = id
			byNamespace[p.Namespace] = append(byNamespace[p.Namespace], id)
		}
		of[i] = id
	}
	for n, s := range r.selectors {
		s.match(n, c, byNamespace)
	}
	return of, all
}

// identityKey returns what is equal for pods of one identity.
func identityKey(p *policy.Pod, over []policy.PodExcess) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", p.Namespace)
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		fmt.Fprintf(&b, "%q%q", k, p.Labels[k])
	}
	for _, port := range p.Ports {
		fmt.Fprintf(&b, "/%q%d.%d", port.Name, port.Proto, port.Number)
	}
	for _, e := range over {
		fmt.Fprintf(&b, "//%d%v", e.Direction, e.Rules)
	}
	return b.String()
}

// isolate finds the isolations of an identity.
func (all isolated) isolate(id *identity, r *rules, over []policy.PodExcess) {
	for _, d := range policy.Directions() {
		iso := &isolation{direction: d}
		for _, p := range r.policies[id.pod.Namespace] {
			if p.isolates[d] && policy.Selects(p.source, id.pod.Labels) {
				iso.policies = append(iso.policies, p)
			}
		}
		if len(iso.policies) == 0 {
			continue
		}
		for _, e := range over {
			if e.Direction == d {
				iso.over = append(iso.over, e.Rules...)
			}
		}
		if d == policy.Ingress {
			iso.ports = id.ports
		}
		key := fmt.Sprint(d, policyNames(iso.policies), iso.over, iso.ports)
		if all[key] == nil {
			all[key] = iso
		}
		id.isolations[d] = all[key]
	}
}

// match notes the selector's number in the identities that it matches.
func (s selector) match(number int, c *policy.Cluster, in map[string][]*identity) {
	add := func(ids []*identity) {
		for _, id := range ids {
			if s.pods.Matches(labels.Set(id.pod.Labels)) {
				id.selectors = append(id.selectors, number)
			}
		}
	}
	if s.namespaces == nil {
		add(in[s.namespace])
		return
	}
	for name, set := range c.Namespaces {
		if s.namespaces.Matches(labels.Set(set)) {
			add(in[name])
		}
	}
}

// rules yields the rules that count, of all policies, in their order.
func (iso *isolation) each(yield func(*rule) bool) {
	for _, p := range iso.policies {
		for i := range p.rules[iso.direction] {
			r := &p.rules[iso.direction][i]
			over := slices.ContainsFunc(iso.over, func(e policy.Excess) bool { return e.RuleRef == r.ref })
			if r.fault == "" && !over && !yield(r) {
				return
			}
		}
	}
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
