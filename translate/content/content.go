// SPDX-License-Identifier: Apache-2.0

package content

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Question is the input for the content of an isolation.
type Question[S comparable] struct {
	Kind     frame.Kind
	Policies []types.NamespacedName
	Rules    iter.Seq2[int, spec.Rule] // with the index of their policy, in the order of admission
	Shared   []string                  // keys of the selectors that the namespace shares
	Limits   Limits
	Budget   int // of elements
	Pods     Pods[S]
}

// Pods says what selectors S match.
type Pods[S comparable] interface {
	Selector(peer spec.Peer) S
	Peer(sel S) spec.Peer
	Addresses(sel S) int // of the pods that it matches
	Wide(sel S) bool     // so many that they are shared, not copied
	Compare(a, b S) int  // order of lookup
}

// Content is what all rules of an isolation's policies allow together, by kind of match.
type Content[S comparable] struct {
	Any      spec.Ports      // every peer
	Copied   map[S]Allowed   // pods, copied into the isolation's own sets
	LookedUp map[S]Allowed   // pods of whole namespaces, looked up in shared sets
	Blocks   []opening.Range // addresses, disjoint and ascending, IPv4 first
}

// Allowed is what the rules with one selector open: ports by number and, for egress, by a name that each peer resolves.
type Allowed struct {
	Open  spec.Ports
	Named []policy.NamedPort
}

func (a Allowed) empty() bool { return a.Open.Empty() && len(a.Named) == 0 }

// Equal says whether two open the same.
func (a Allowed) Equal(b Allowed) bool {
	return a.Open.Equal(b.Open) && slices.Equal(a.Named, b.Named)
}

// Shared yields the port names of each shared set of the selector that is looked up; nil stands for the set of
// addresses.
func (a Allowed) Shared() iter.Seq[[]policy.NamedPort] {
	return func(yield func([]policy.NamedPort) bool) {
		if !a.Open.Empty() && !yield(nil) {
			return
		}
		for i := range a.Named {
			if !yield(a.Named[i : i+1 : i+1]) {
				return
			}
		}
	}
}

// maxLookedUp is how many selectors an isolation looks up in shared sets, and maxNamed how many port names. The excess
// is copied into the isolation's own sets, so that no policy makes the chain longer.
const maxLookedUp, maxNamed = 4, 4

// Large yields the port sets of rules that jump to a chain: see [maxInline].
func (c *Content[S]) Large() iter.Seq[spec.Ports] {
	return func(yield func(spec.Ports) bool) {
		if !opening.Inline(c.Any) && !yield(c.Any) {
			return
		}
		for _, a := range c.LookedUp {
			if !opening.Inline(a.Open) && !yield(a.Open) {
				return
			}
		}
	}
}

// OpenTo returns the union of what the copied selectors open to pods with some named ports. selectors are those that
// match the pods, and matches says whether one does: whichever is fewer gets iterated.
func (c *Content[S]) OpenTo(selectors []S, ports []policy.NamedPort, matches func(S) bool) spec.Ports {
	var open []spec.Ports
	add := func(a Allowed) {
		open = append(open, a.Open)
		for _, port := range a.Named {
			open = append(open, spec.Ports{Ranges: spec.NumbersOf(ports, port)})
		}
	}
	if len(c.Copied) < len(selectors) {
		for sel, a := range c.Copied {
			if matches(sel) {
				add(a)
			}
		}
		return spec.Union(open...)
	}
	for _, sel := range selectors {
		if a, ok := c.Copied[sel]; ok {
			add(a)
		}
	}
	return spec.Union(open...)
}

// Of joins the rules of an isolation's policies that are within the limits.
func Of[S comparable](q Question[S]) (Content[S], Demand[S]) {
	a := admit(q)
	var anyPeer []spec.Ports
	for _, r := range a.admitted {
		if r.AnyPeer {
			anyPeer = append(anyPeer, r.Ports.Open)
		}
	}
	c := Content[S]{Any: spec.Union(anyPeer...), Blocks: a.blocks}
	if c.Any.Every {
		return c, a.demand
	}
	pods := make(map[S]*opens)
	for _, r := range a.admitted {
		joinPods(pods, r)
	}
	c.Copied = make(map[S]Allowed, len(pods))
	for sel, o := range pods {
		slices.SortFunc(o.named, func(p, q policy.NamedPort) int {
			return cmp.Or(cmp.Compare(p.Name, q.Name), cmp.Compare(p.Proto, q.Proto))
		})
		c.Copied[sel] = Allowed{spec.Union(o.open...), slices.Compact(o.named)}
	}
	for _, r := range a.rest {
		for _, sel := range r.resolved {
			if _, known := c.Copied[sel]; !known {
				c.Copied[sel] = Allowed{}
			}
		}
	}
	c.lookUp(q.Pods)
	return c, a.demand
}

// opens gathers what rules with one selector open.
type opens struct {
	open  []spec.Ports
	named []policy.NamedPort
}

// joinPods adds what a rule opens to pods.
func joinPods[S comparable](pods map[S]*opens, r rule[S]) {
	ports := r.Ports
	if r.AnyPeer { // numbered ports are open to more than pods
		ports.Open = spec.Ports{}
	}
	for _, sel := range r.resolved {
		o := pods[sel]
		if o == nil {
			o = new(opens)
			pods[sel] = o
		}
		o.open, o.named = append(o.open, ports.Open), append(o.named, ports.Named...)
	}
}

// lookUp moves selectors with shared sets from Copied to LookedUp: whole namespaces, then wide ones.
func (c *Content[S]) lookUp(pods Pods[S]) {
	c.LookedUp = make(map[S]Allowed)
	numbers, names := 0, 0
	for _, sel := range slices.SortedFunc(maps.Keys(c.Copied), pods.Compare) {
		own := c.Copied[sel]
		var shared Allowed
		if (pods.Peer(sel).Whole() || pods.Wide(sel)) && !own.Open.Empty() && numbers < maxLookedUp {
			shared.Open, own.Open = own.Open, spec.Ports{}
			numbers++
		}
		if pods.Wide(sel) {
			n := min(len(own.Named), maxNamed-names)
			shared.Named, own.Named = own.Named[:n:n], own.Named[n:]
			names += n
		}
		if shared.empty() {
			continue
		}
		c.LookedUp[sel] = shared
		if own.empty() {
			delete(c.Copied, sel)
		} else {
			c.Copied[sel] = own
		}
	}
}
