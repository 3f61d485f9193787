// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// entry is one key of a mapping and its value.
type entry struct{ key, value *yaml.Node }

// maxMerges is how many merge keys may lead from one to the next.
const maxMerges = 8

// mapping returns the entries of an object by key. A key that is there twice is a problem and left out, for nobody knows which of
// the two is meant. Merge keys (<<: *base) are resolved.
func (d *decoder) mapping(n *yaml.Node, path *field.Path) map[string]entry {
	return d.merged(n, path, maxMerges)
}

func (d *decoder) merged(n *yaml.Node, path *field.Path, depth int) map[string]entry {
	n = d.spend(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "want an object, not %s", describe(n))
		return nil
	}
	if depth == 0 {
		d.fail(n, path, "too many merge keys lead to this one")
		return nil
	}
	entries := make(map[string]entry, len(n.Content)/2)
	var twice []string
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := d.spend(n.Content[i])
		switch {
		case key == nil:
			return nil
		case key.Tag == "!!merge":
			merges = append(merges, n.Content[i+1])
		case key.Kind != yaml.ScalarNode || isNull(key):
			d.fail(key, path, "want a string as key, not %s", describe(key))
		case entries[key.Value].key != nil:
			d.fail(key, path, "key %.80q is in line %d already", key.Value, entries[key.Value].key.Line)
			twice = append(twice, key.Value)
		default:
			entries[key.Value] = entry{n.Content[i], n.Content[i+1]}
		}
	}
	for _, m := range merges {
		d.merge(entries, m, path, depth-1)
	}
	for _, key := range twice {
		delete(entries, key)
	}
	return entries
}

// merge adds the entries of the object, or of the list of objects, that a merge key names, where entries has none of their key.
func (d *decoder) merge(entries map[string]entry, n *yaml.Node, path *field.Path, depth int) {
	sources := []*yaml.Node{n}
	if list := d.spend(n); list != nil && list.Kind == yaml.SequenceNode {
		sources = list.Content
	}
	for _, source := range sources {
		for key, e := range d.merged(source, path, depth) {
			if _, set := entries[key]; !set {
				entries[key] = e
			}
		}
	}
}
