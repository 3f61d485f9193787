// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// content is what all rules of an isolation's policies allow together, by the kind of match that it needs.
type content struct {
	any      spec.Ports            // every peer
	copied   map[*selector]allowed // pods, copied into the isolation's own sets
	lookedUp map[*selector]allowed // pods of whole namespaces, looked up in sets that are shared
	blocks   []opening.Range       // addresses, disjoint and ascending, IPv4 first
}

// allowed is what the rules with one selector open: by number, and for egress by a name that each peer resolves itself.
type allowed struct {
	open  spec.Ports
	named []policy.NamedPort
}

func (a allowed) empty() bool { return a.open.Empty() && len(a.named) == 0 }

// equal says whether two open the same; what nothing copies opens nothing.
func (a allowed) equal(b allowed) bool {
	return a.open.Equal(b.open) && slices.Equal(a.named, b.named)
}

// shared yields the names of ports of each of the sets that a selector shares with those who allow it that; nil are the
// pods' addresses.
func (a allowed) shared() iter.Seq[[]policy.NamedPort] {
	return func(yield func([]policy.NamedPort) bool) {
		if !a.open.Empty() && !yield(nil) {
			return
		}
		for i := range a.named {
			if !yield(a.named[i : i+1 : i+1]) {
				return
			}
		}
	}
}

// maxLookedUp is how many selectors an isolation looks up in the sets that it shares with others, and maxNamed how many
// names of ports. What exceeds it is copied into the isolation's own sets, so that no policy makes the chain longer.
const maxLookedUp, maxNamed = 4, 4

// large yields the port sets of rules that jump to a chain: see [maxInline].
func (c *content) large() iter.Seq[spec.Ports] {
	return func(yield func(spec.Ports) bool) {
		if !opening.Inline(c.any) && !yield(c.any) {
			return
		}
		for _, a := range c.lookedUp {
			if !opening.Inline(a.open) && !yield(a.open) {
				return
			}
		}
	}
}

// contentOf joins the rules of an isolation's policies, as far as they are within the limits.
func (s *State) contentOf(iso *isolation) content {
	if iso.quarantine != nil {
		return content{}
	}
	a := s.admit(iso)
	s.setDemand(iso, a.demand)
	var anyPeer []spec.Ports
	for _, r := range a.admitted {
		if r.AnyPeer {
			anyPeer = append(anyPeer, r.Ports.Open)
		}
	}
	c := content{any: spec.Union(anyPeer...), blocks: a.blocks}
	if c.any.Every {
		return c
	}
	pods := make(map[*selector]*opens)
	for _, r := range a.admitted {
		joinPods(pods, r)
	}
	c.copied = make(map[*selector]allowed, len(pods))
	for sel, o := range pods {
		slices.SortFunc(o.named, func(p, q policy.NamedPort) int {
			return cmp.Or(cmp.Compare(p.Name, q.Name), cmp.Compare(p.Proto, q.Proto))
		})
		c.copied[sel] = allowed{spec.Union(o.open...), slices.Compact(o.named)}
	}
	for _, r := range a.rest {
		for _, sel := range r.resolved {
			if _, known := c.copied[sel]; !known {
				c.copied[sel] = allowed{}
			}
		}
	}
	c.lookUp(s.wide)
	return c
}

// opens gathers what rules with one selector open.
type opens struct {
	open  []spec.Ports
	named []policy.NamedPort
}

// rules yields the rules of the isolation's policies, with the names of ports replaced by numbers where the isolated
// pod has them.
func (iso *isolation) rules(s *State) iter.Seq[rule] {
	return func(yield func(rule) bool) {
		for i, name := range iso.policies {
			for _, written := range s.policies.Get(name).Rules(iso.kind.Direction) {
				r := rule{Rule: written, policy: i}
				if iso.kind.Direction == policy.Ingress {
					r.Ports = iso.numbered(r.Ports)
				}
				if !yield(r) {
					return
				}
			}
		}
	}
}

// joinPods adds what a rule opens to pods.
func joinPods(pods map[*selector]*opens, r rule) {
	ports := r.Ports
	if r.AnyPeer { // by number it opens to more than pods
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

// peers returns the peers of a rule that it opens anything to. One for any peer opens the names of ports to the pods
// that have them.
func (r rule) peers() []spec.Peer {
	switch {
	case r.AnyPeer && len(r.Ports.Named) > 0:
		return []spec.Peer{{Pods: labels.Everything()}}
	case r.AnyPeer, r.Ports.Open.Empty() && len(r.Ports.Named) == 0:
		return nil
	}
	return r.Peers
}

// numbered returns ports with the names replaced by the numbers that they have in the isolated pods.
func (iso *isolation) numbered(ports spec.RulePorts) spec.RulePorts {
	open := []spec.Ports{ports.Open}
	for _, port := range ports.Named {
		open = append(open, spec.Ports{Ranges: iso.numbers[port]})
	}
	return spec.RulePorts{Open: spec.Union(open...)}
}

// lookUp moves from copied to lookedUp what selectors share: whole namespaces, then those that are wide.
func (c *content) lookUp(wide func(*selector) bool) {
	c.lookedUp = make(map[*selector]allowed)
	numbers, names := 0, 0
	for _, sel := range slices.SortedFunc(maps.Keys(c.copied), bySelector) {
		own := c.copied[sel]
		var shared allowed
		if (sel.Whole() || wide(sel)) && !own.open.Empty() && numbers < maxLookedUp {
			shared.open, own.open = own.open, spec.Ports{}
			numbers++
		}
		if wide(sel) {
			n := min(len(own.named), maxNamed-names)
			shared.named, own.named = own.named[:n:n], own.named[n:]
			names += n
		}
		if shared.empty() {
			continue
		}
		if c.lookedUp[sel] = shared; own.empty() {
			delete(c.copied, sel)
		} else {
			c.copied[sel] = own
		}
	}
}

// bySelector puts the selector of all namespaces first, then those of whole ones; the order must not depend on what the
// selectors match at the moment.
func bySelector(a, b *selector) int {
	rank := func(sel *selector) int {
		switch {
		case sel.Whole() && sel.Namespaces != nil && sel.Namespaces.Empty():
			return 0
		case sel.Whole():
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Key, b.Key))
}

// rule is a rule of a policy in an isolation.
type rule struct {
	spec.Rule
	policy   int         // of the isolation's
	resolved []*selector // of its peers, as far as they were looked at
}
