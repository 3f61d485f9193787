// SPDX-License-Identifier: Apache-2.0

package index

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"unique"

	"github.com/netpold/netpold/translate/policy"
)

// Labels are the labels of an identity. A map takes three times the memory, and a search through a handful of keys is
// as fast.
type Labels []label

type label struct {
	key   unique.Handle[string] // there are few in a cluster
	value string
}

func listOf(set map[string]string) Labels {
	list := make(Labels, 0, len(set))
	for k, v := range set {
		list = append(list, label{unique.Make(k), v})
	}
	return list
}

// Lookup returns the value of a label, and whether there is one. It and the other methods are what selectors ask for.
func (l Labels) Lookup(key string) (value string, exists bool) {
	for _, have := range l {
		if have.key.Value() == key {
			return have.value, true
		}
	}
	return "", false
}

// Has says whether there is a label of that key.
func (l Labels) Has(key string) bool {
	_, exists := l.Lookup(key)
	return exists
}

// Get returns the value of a label, or "".
func (l Labels) Get(key string) string {
	value, _ := l.Lookup(key)
	return value
}

// set returns the labels as they were given.
func (l Labels) set() map[string]string {
	set := make(map[string]string, len(l))
	for _, have := range l {
		set[have.key.Value()] = have.value
	}
	return set
}

// equal says whether set has the same labels.
func (l Labels) equal(set map[string]string) bool {
	if len(l) != len(set) {
		return false
	}
	for _, have := range l {
		if value, exists := set[have.key.Value()]; !exists || value != have.value {
			return false
		}
	}
	return true
}

// reuse takes from another identity what is equal in both. Where each pod has a label of its own, as those of a
// StatefulSet, all else is.
func (id *Identity[I, S]) reuse(other *Identity[I, S]) {
	for i, have := range id.Labels {
		if value := other.Labels.Get(have.key.Value()); value == have.value {
			id.Labels[i].value = value
		}
	}
	if slices.Equal(id.Ports, other.Ports) {
		id.Ports = other.Ports
	}
}

// identityKey is equal for pods that policy cannot tell apart, within a namespace. It is a hash: the text takes a tenth
// of all memory. Who finds two that are equal has confused the pods of his own namespace.
type identityKey [16]byte

// keyOf returns the key of p's identity.
func keyOf(p *policy.Pod) identityKey {
	b := make([]byte, 0, 512)
	text := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		text(k)
		text(p.Labels[k])
	}
	b = append(b, '/')
	if idle(p) {
		b = append(b, '/')
	}
	for _, port := range p.Ports {
		text(port.Name)
		b = append(b, port.Proto, byte(port.Number>>8), byte(port.Number))
	}
	sum := sha256.Sum256(b)
	return identityKey(sum[:])
}
