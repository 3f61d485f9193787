// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/netpold/netpold/nft"
)

// content is what all rules of an isolation's policies allow together, by the kind of match that it needs.
type content struct {
	any    portSet               // every peer
	merged map[*selector]allowed // pods, copied into the isolation's own sets
	shared map[*selector]portSet // pods of whole namespaces, looked up in the selector's sets
	blocks []openRange           // addresses, disjoint and ascending, IPv4 first
}

// allowed is what the rules with one selector open: by number, and for egress by a name that each peer resolves itself.
type allowed struct {
	open  portSet
	named []NamedPort
}

// equal says whether two open the same; what nothing merges opens nothing.
func (a allowed) equal(b allowed) bool {
	return a.open.equal(b.open) && slices.Equal(a.named, b.named)
}

// maxShared is how many selectors of whole namespaces an isolation looks up in the sets that it shares with others. What exceeds it
// is copied into the isolation's own sets, so that no policy makes the chain longer.
const maxShared = 4

// large yields the port sets of rules that jump to a chain: see [maxInline].
func (c *content) large() iter.Seq[portSet] {
	return func(yield func(portSet) bool) {
		if !c.any.inline() && !yield(c.any) {
			return
		}
		for _, p := range c.shared {
			if !p.inline() && !yield(p) {
				return
			}
		}
	}
}

// join merges the rules of an isolation's policies.
func (s *State) join(iso *isolation) content {
	if iso.quarantine != nil {
		return content{}
	}
	var c content
	var anyPeer []portSet
	for r := range iso.rules(s) {
		if r.anyPeer {
			anyPeer = append(anyPeer, r.ports.open)
		}
	}
	if c.any = union(anyPeer...); c.any.every { // nothing adds to every peer on every port
		return content{any: c.any}
	}
	blocks := make(map[nft.Family][]openBlock)
	pods := make(map[*selector]*opens)
	for r := range iso.rules(s) {
		s.joinPods(pods, r)
		for _, b := range r.blocks {
			if !r.ports.open.empty() { // of an address a port's name is no number
				blocks[b.family] = append(blocks[b.family], openBlock{b, r.ports.open})
			}
		}
	}
	for _, f := range nft.Families() {
		c.blocks = append(c.blocks, cut(iso.direction, f, blocks[f])...)
	}
	c.merged = make(map[*selector]allowed, len(pods))
	for sel, o := range pods {
		c.merged[sel] = allowed{union(o.open...), o.named}
	}
	c.share()
	return c
}

// opens gathers what rules with one selector open.
type opens struct {
	open  []portSet
	named []NamedPort
}

// rules yields the rules of the isolation's policies, with the names of ports replaced by numbers where the isolated pod has them.
func (iso *isolation) rules(s *State) iter.Seq[rule] {
	return func(yield func(rule) bool) {
		for _, name := range iso.policies {
			for _, r := range s.policy(name).rules(iso.direction) {
				if iso.direction == Ingress {
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
func (s *State) joinPods(pods map[*selector]*opens, r rule) {
	peers, ports := r.selectors, r.ports
	if r.anyPeer { // by number it opens to more than pods; by name, to the pods that have the name
		peers, ports.open = []podPeer{{pods: labels.Everything()}}, portSet{}
	}
	if ports.open.empty() && len(ports.named) == 0 {
		return
	}
	for _, peer := range peers {
		sel := s.selectorOf(peer)
		o := pods[sel]
		if o == nil {
			o = new(opens)
			pods[sel] = o
		}
		o.open, o.named = append(o.open, ports.open), append(o.named, ports.named...)
	}
}

// numbered returns ports with the names replaced by the numbers that they have in the isolated pods.
func (iso *isolation) numbered(ports rulePorts) rulePorts {
	open := []portSet{ports.open}
	for _, port := range ports.named {
		open = append(open, portSet{ranges: iso.numbers[port]})
	}
	return rulePorts{open: union(open...)}
}

// share moves selectors of whole namespaces from merged to shared, those that match most first.
func (c *content) share() {
	var whole []*selector
	for sel, a := range c.merged {
		if sel.whole() && !a.open.empty() {
			whole = append(whole, sel)
		}
	}
	slices.SortFunc(whole, bySelector)
	c.shared = make(map[*selector]portSet)
	for _, sel := range whole[:min(len(whole), maxShared)] {
		a := c.merged[sel]
		c.shared[sel] = a.open
		if delete(c.merged, sel); len(a.named) > 0 {
			c.merged[sel] = allowed{named: a.named}
		}
	}
}

// bySelector puts the selector of all namespaces first; the order must not depend on what the selectors match at the moment.
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

// addShare makes iso a user of the sets of sel, which hold the addresses of all its pods.
func (s *State) addShare(sel *selector, iso *isolation) {
	first := len(sel.shares) == 0
	sel.shares[iso] = struct{}{}
	if !first {
		return
	}
	for id := range sel.matches {
		for a := range s.addresses(id) {
			s.share(sel, a)
		}
	}
}

// dropShare ends the use of the sets of sel by iso.
func (s *State) dropShare(sel *selector, iso *isolation) {
	if delete(sel.shares, iso); len(sel.shares) > 0 {
		return
	}
	for _, set := range sel.sets {
		s.table.DeleteSet(set.Name)
	}
	clear(sel.sets)
	s.dropSelector(sel)
}
