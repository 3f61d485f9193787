// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// content is what all rules of an isolation's policies allow together, by the kind of match that it needs.
type content struct {
	any      spec.Ports               // every peer
	copied   map[*selector]allowed    // pods, copied into the isolation's own sets
	lookedUp map[*selector]spec.Ports // pods of whole namespaces, looked up in the selector's sets
	blocks   []opening.Range          // addresses, disjoint and ascending, IPv4 first
}

// allowed is what the rules with one selector open: by number, and for egress by a name that each peer resolves itself.
type allowed struct {
	open  spec.Ports
	named []policy.NamedPort
}

// equal says whether two open the same; what nothing copies opens nothing.
func (a allowed) equal(b allowed) bool {
	return a.open.Equal(b.open) && slices.Equal(a.named, b.named)
}

// maxLookedUp is how many selectors of whole namespaces an isolation looks up in the sets that it shares with others.
// What exceeds it is copied into the isolation's own sets, so that no policy makes the chain longer.
const maxLookedUp = 4

// large yields the port sets of rules that jump to a chain: see [maxInline].
func (c *content) large() iter.Seq[spec.Ports] {
	return func(yield func(spec.Ports) bool) {
		if !opening.Inline(c.any) && !yield(c.any) {
			return
		}
		for _, p := range c.lookedUp {
			if !opening.Inline(p) && !yield(p) {
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
		c.copied[sel] = allowed{spec.Union(o.open...), o.named}
	}
	for _, r := range a.rest {
		for _, sel := range r.resolved {
			if _, known := c.copied[sel]; !known {
				c.copied[sel] = allowed{}
			}
		}
	}
	c.lookUpWhole()
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
			for _, written := range s.policy(name).rules(iso.kind.Direction) {
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

// lookUpWhole moves selectors of whole namespaces from copied to lookedUp, those that match most first.
func (c *content) lookUpWhole() {
	var whole []*selector
	for sel, a := range c.copied {
		if sel.Whole() && !a.open.Empty() {
			whole = append(whole, sel)
		}
	}
	slices.SortFunc(whole, bySelector)
	c.lookedUp = make(map[*selector]spec.Ports)
	for _, sel := range whole[:min(len(whole), maxLookedUp)] {
		a := c.copied[sel]
		c.lookedUp[sel] = a.open
		delete(c.copied, sel)
		if len(a.named) > 0 {
			c.copied[sel] = allowed{named: a.named}
		}
	}
}

// bySelector puts the selector of all namespaces first; the order must not depend on what the selectors match at the
// moment.
func bySelector(a, b *selector) int {
	all := func(sel *selector) bool { return sel.Namespaces != nil && sel.Namespaces.Empty() }
	if all(a) != all(b) {
		if all(a) {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Key, b.Key)
}

// lookUpIn makes iso a user of the sets of sel, which hold the addresses of all its pods.
func (s *State) lookUpIn(sel *selector, iso *isolation) {
	first := len(sel.Own.lookedUpBy) == 0
	sel.Own.lookedUpBy[iso] = struct{}{}
	if !first {
		return
	}
	for id := range sel.Matches {
		for a := range s.index.Addresses(id) {
			s.listAddress(sel, a)
		}
	}
}

// endLookUp ends the use of the sets of sel by iso.
func (s *State) endLookUp(sel *selector, iso *isolation) {
	delete(sel.Own.lookedUpBy, iso)
	if len(sel.Own.lookedUpBy) > 0 {
		return
	}
	s.dropSets(sel)
	s.dropSelector(sel)
}
