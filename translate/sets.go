// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"github.com/netpold/netpold/translate/chain"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/spec"
)

// grant is what an isolation opens to identities.
type grant = chain.Grant

// grant brings what the isolation opens to an identity, and the elements of its addresses, up to date.
func (iso *isolation) grant(s *State, id *identity) {
	ports := iso.portsOf(id)
	old := id.Own.grants[iso]
	if old == nil && ports.Empty() || old != nil && old.Ports.Key() == ports.Key() {
		return
	}
	var next *grant
	if !ports.Empty() {
		next = iso.placed.Acquire(ports)
	}
	if old != nil {
		for a := range s.index.Addresses(id) {
			iso.placed.Unwant(a, old)
		}
		iso.release(id, old)
	}
	if next != nil {
		if id.Own.grants == nil {
			id.Own.grants = make(map[*isolation]*grant)
		}
		id.Own.grants[iso] = next
		for a, p := range s.index.Addresses(id) {
			iso.placed.Want(a, p.Text, next)
		}
	}
}

// portsOf returns the union of what the isolation's merged selectors that match id open.
func (iso *isolation) portsOf(id *identity) spec.Ports {
	var open []spec.Ports
	add := func(a content.Allowed) {
		open = append(open, a.Open)
		for _, port := range a.Named {
			open = append(open, spec.Ports{Ranges: spec.NumbersOf(id.Ports, port)})
		}
	}
	if len(iso.Copied) < len(id.Selectors) {
		for sel, a := range iso.Copied {
			if _, matches := sel.Matches[id]; matches {
				add(a)
			}
		}
		return spec.Union(open...)
	}
	for _, sel := range id.Selectors {
		if a, ok := iso.Copied[sel]; ok {
			add(a)
		}
	}
	return spec.Union(open...)
}

// release takes g back from id.
func (iso *isolation) release(id *identity, g *grant) {
	delete(id.Own.grants, iso)
	iso.placed.Release(g)
}
