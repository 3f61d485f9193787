// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/translate/policy"
)

// content is what all rules of an isolation's policies allow together, by the kind of match that it needs.
type content struct {
	any      portSet               // every peer
	copied   map[*selector]allowed // pods, copied into the isolation's own sets
	lookedUp map[*selector]portSet // pods of whole namespaces, looked up in the selector's sets
	blocks   []openRange           // addresses, disjoint and ascending, IPv4 first
}

// allowed is what the rules with one selector open: by number, and for egress by a name that each peer resolves itself.
type allowed struct {
	open  portSet
	named []policy.NamedPort
}

// equal says whether two open the same; what nothing copies opens nothing.
func (a allowed) equal(b allowed) bool {
	return a.open.equal(b.open) && slices.Equal(a.named, b.named)
}

// maxLookedUp is how many selectors of whole namespaces an isolation looks up in the sets that it shares with others.
// What exceeds it is copied into the isolation's own sets, so that no policy makes the chain longer.
const maxLookedUp = 4

// large yields the port sets of rules that jump to a chain: see [maxInline].
func (c *content) large() iter.Seq[portSet] {
	return func(yield func(portSet) bool) {
		if !c.any.inline() && !yield(c.any) {
			return
		}
		for _, p := range c.lookedUp {
			if !p.inline() && !yield(p) {
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
	var anyPeer []portSet
	for _, r := range a.admitted {
		if r.anyPeer {
			anyPeer = append(anyPeer, r.ports.open)
		}
	}
	c := content{any: union(anyPeer...), blocks: a.blocks}
	if c.any.every {
		return c
	}
	pods := make(map[*selector]*opens)
	for _, r := range a.admitted {
		joinPods(pods, r)
	}
	c.copied = make(map[*selector]allowed, len(pods))
	for sel, o := range pods {
		c.copied[sel] = allowed{union(o.open...), o.named}
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
	open  []portSet
	named []policy.NamedPort
}

// rules yields the rules of the isolation's policies, with the names of ports replaced by numbers where the isolated
// pod has them.
func (iso *isolation) rules(s *State) iter.Seq[rule] {
	return func(yield func(rule) bool) {
		for i, name := range iso.policies {
			for _, r := range s.policy(name).rules(iso.direction) {
				r.policy = i
				if iso.direction == policy.Ingress {
					r.ports = iso.numbered(r.ports)
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
	ports := r.ports
	if r.anyPeer { // by number it opens to more than pods
		ports.open = portSet{}
	}
	for _, sel := range r.resolved {
		o := pods[sel]
		if o == nil {
			o = new(opens)
			pods[sel] = o
		}
		o.open, o.named = append(o.open, ports.open), append(o.named, ports.named...)
	}
}

// selectorsOf returns the selectors of a rule that opens anything to pods. One for any peer opens the names of ports to
// the pods that have them.
func (s *State) selectorsOf(r *rule) []*selector {
	peers := r.selectors
	switch {
	case r.anyPeer && len(r.ports.named) > 0:
		peers = []podPeer{{pods: labels.Everything()}}
	case r.anyPeer, r.ports.open.empty() && len(r.ports.named) == 0:
		return nil
	}
	selectors := make([]*selector, len(peers))
	for i, peer := range peers {
		selectors[i] = s.selectorOf(peer)
	}
	return selectors
}

// numbered returns ports with the names replaced by the numbers that they have in the isolated pods.
func (iso *isolation) numbered(ports rulePorts) rulePorts {
	open := []portSet{ports.open}
	for _, port := range ports.named {
		open = append(open, portSet{ranges: iso.numbers[port]})
	}
	return rulePorts{open: union(open...)}
}

// lookUpWhole moves selectors of whole namespaces from copied to lookedUp, those that match most first.
func (c *content) lookUpWhole() {
	var whole []*selector
	for sel, a := range c.copied {
		if sel.whole() && !a.open.empty() {
			whole = append(whole, sel)
		}
	}
	slices.SortFunc(whole, bySelector)
	c.lookedUp = make(map[*selector]portSet)
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
	all := func(sel *selector) bool { return sel.namespaces != nil && sel.namespaces.Empty() }
	if all(a) != all(b) {
		if all(a) {
			return -1
		}
		return 1
	}
	return strings.Compare(a.key, b.key)
}

// lookUpIn makes iso a user of the sets of sel, which hold the addresses of all its pods.
func (s *State) lookUpIn(sel *selector, iso *isolation) {
	first := len(sel.lookedUpBy) == 0
	sel.lookedUpBy[iso] = struct{}{}
	if !first {
		return
	}
	for id := range sel.matches {
		for a := range s.addresses(id) {
			s.listAddress(sel, a)
		}
	}
}

// endLookUp ends the use of the sets of sel by iso.
func (s *State) endLookUp(sel *selector, iso *isolation) {
	delete(sel.lookedUpBy, iso)
	if len(sel.lookedUpBy) > 0 {
		return
	}
	for _, set := range sel.sets {
		s.table.DeleteSet(set.Name)
	}
	clear(sel.sets)
	s.dropSelector(sel)
}
