// SPDX-License-Identifier: Apache-2.0

package index

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/netpold/netpold/translate/policy"
)

// An identity is the labels of its pods, for selectors.

// packed returns the labels if the identity has more than maxTerms, or nil.
func (id *Identity[I, S]) packed() *packed {
	if len(id.labels) > 0 {
		return nil
	}
	return id.Namespace.identities.crowded[id.number]
}

// Lookup returns the value of a label, and whether there is one.
func (id *Identity[I, S]) Lookup(key string) (value string, exists bool) {
	if p := id.packed(); p != nil {
		return p.Lookup(key)
	}
	entries := id.Namespace.identities.entries
	for _, l := range id.labels {
		if e := &entries[l]; e.key.Value() == key {
			return e.value, true
		}
	}
	return "", false
}

// Has says whether there is a label with that key.
func (id *Identity[I, S]) Has(key string) bool {
	_, exists := id.Lookup(key)
	return exists
}

// Get returns the value of a label, or "".
func (id *Identity[I, S]) Get(key string) string {
	value, _ := id.Lookup(key)
	return value
}

// Labels returns the labels as they were given.
func (id *Identity[I, S]) Labels() map[string]string {
	if p := id.packed(); p != nil {
		return maps.Collect(p.all)
	}
	set := make(map[string]string, len(id.labels))
	for _, l := range id.labels {
		e := &id.Namespace.identities.entries[l]
		set[e.key.Value()] = e.value
	}
	return set
}

// hasLabels says whether set is the same labels.
func (id *Identity[I, S]) hasLabels(set map[string]string) bool {
	if p := id.packed(); p != nil {
		return maps.Equal(maps.Collect(p.all), set)
	}
	if len(id.labels) != len(set) {
		return false
	}
	for _, l := range id.labels {
		e := &id.Namespace.identities.entries[l]
		if value, exists := set[e.key.Value()]; !exists || value != e.value {
			return false
		}
	}
	return true
}

// is says whether p, of the namespace of id, has the identity.
func (id *Identity[I, S]) is(p *policy.Pod) bool {
	return id.Idle == idle(p) && id.hasLabels(p.Labels) && slices.Equal(id.Ports, p.Ports)
}

// hashOf returns the same for pods that policy cannot tell apart.
func (x *Index[I, S]) hashOf(p *policy.Pod) uint64 {
	sum := uint64(0)
	for k, v := range p.Labels {
		sum += maphash.Comparable(x.seed, [2]string{k, v})
	}
	for _, port := range p.Ports {
		sum += maphash.Comparable(x.seed, port)
	}
	if idle(p) {
		sum = ^sum
	}
	return sum
}
