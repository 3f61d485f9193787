// SPDX-License-Identifier: Apache-2.0

package index

import (
	"maps"
	"slices"
	"sort"
	"strings"
)

// maxTerms is how many labels are stored as terms, several times what pods have. The API server has no limit but the
// size of an object, and a term takes a hundred times the bytes of a short label. With more labels, a thing has them
// [packed], and is held against each selector.
const maxTerms = 128

// packed are many labels, in little more than their bytes.
type packed struct {
	text string   // each key and its value, by key
	ends []uint32 // of each of them
}

func pack(set map[string]string) *packed {
	var text strings.Builder
	p := &packed{ends: make([]uint32, 0, 2*len(set))}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		for _, part := range []string{key, set[key]} {
			text.WriteString(part)
			p.ends = append(p.ends, uint32(text.Len()))
		}
	}
	p.text = text.String()
	return p
}

func (p *packed) len() int { return len(p.ends) / 2 }

// at returns a label by its number.
func (p *packed) at(i int) (key, value string) {
	begin := uint32(0)
	if i > 0 {
		begin = p.ends[2*i-1]
	}
	return p.text[begin:p.ends[2*i]], p.text[p.ends[2*i]:p.ends[2*i+1]]
}

// all yields the labels.
func (p *packed) all(yield func(key, value string) bool) {
	for i := range p.len() {
		if !yield(p.at(i)) {
			return
		}
	}
}

// Lookup returns the value of a label, and whether there is one.
func (p *packed) Lookup(label string) (value string, exists bool) {
	i := sort.Search(p.len(), func(i int) bool {
		key, _ := p.at(i)
		return key >= label
	})
	if i == p.len() {
		return "", false
	}
	key, value := p.at(i)
	if key != label {
		return "", false
	}
	return value, true
}

// Has says whether there is a label with that key.
func (p *packed) Has(key string) bool {
	_, exists := p.Lookup(key)
	return exists
}

// Get returns the value of a label, or "".
func (p *packed) Get(key string) string {
	value, _ := p.Lookup(key)
	return value
}
