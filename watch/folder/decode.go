// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// A Error says what is wrong with a manifest.
type Error struct {
	File    string
	Line    int    // counted from 1; 0 for the file as a whole
	Object  string // kind and name, as "NetworkPolicy shop/db", or "" where the document does not tell
	Field   string // as "spec.ingress[0].ports[0].port", or ""
	Problem string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	for _, part := range []string{e.Object, e.Field, e.Problem} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	return b.String()
}

// decoder turns nodes into Go values by their json tags, as encoding/json does with text, but goes on after a problem: it says what
// is wrong with each field, in which line, and leaves that field zero. It looks only at what the Go type has, so neither depth nor
// aliases of the rest of a document matter.
type decoder struct {
	file     string
	object   string // that the nodes are part of
	strict   bool   // a field that the Go type does not have is a problem
	budget   int    // how many nodes may still be visited: aliases make more of them than there are bytes
	problems []*Error
	fields   map[reflect.Type]map[string]int // index of each field, by its json name
}

func newDecoder(file string, size int) *decoder {
	return &decoder{file: file, budget: 1000 + 10*size, fields: make(map[reflect.Type]map[string]int)}
}

// fail notes a problem of the node.
func (d *decoder) fail(n *yaml.Node, path *field.Path, format string, args ...any) {
	e := &Error{File: d.file, Line: n.Line, Object: d.object, Problem: fmt.Sprintf(format, args...)}
	if path != nil {
		e.Field = path.String()
	}
	d.problems = append(d.problems, e)
}

// spend follows aliases and pays for one node. It returns nil when there have been too many.
func (d *decoder) spend(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.budget--; d.budget < 0 {
		return nil
	}
	return n
}

// decode sets *out, or what of it can be set, and says whether there was no problem.
func decode[T any](d *decoder, n *yaml.Node, path *field.Path, out *T) bool {
	before := len(d.problems)
	d.value(n, path, reflect.ValueOf(out).Elem())
	return len(d.problems) == before && d.budget >= 0
}

// decodeList returns the elements of a list that can be decoded. Each of the others is a problem.
func decodeList[T any](d *decoder, n *yaml.Node, path *field.Path) []T {
	var list []T
	for i, child := range d.list(n, path) {
		var element T
		if child != nil && decode(d, child, path.Index(i), &element) {
			list = append(list, element)
		}
	}
	return list
}

// value sets v to what the node says; null leaves it zero.
func (d *decoder) value(n *yaml.Node, path *field.Path, v reflect.Value) {
	n = d.spend(n)
	if isNull(n) {
		return
	}
	if number, ok := reflect.TypeAssert[*intstr.IntOrString](v.Addr()); ok {
		d.intOrString(n, path, number)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, path, v.Elem())
	case reflect.Struct:
		d.structure(n, path, v)
	case reflect.Slice:
		children := d.list(n, path)
		v.Set(reflect.MakeSlice(v.Type(), len(children), len(children)))
		for i, child := range children {
			d.value(child, path.Index(i), v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for key, f := range d.mapping(n, path) {
			text := reflect.New(v.Type().Elem()).Elem()
			d.value(f.value, path.Key(plain(key)), text)
			v.SetMapIndex(reflect.ValueOf(key), text)
		}
	default:
		d.scalar(n, path, v)
	}
}

// scalar sets a string, a boolean or a number. There is no conversion between them: a label that looks like a number has to be
// quoted, as for the API server.
func (d *decoder) scalar(n *yaml.Node, path *field.Path, v reflect.Value) {
	switch kind := v.Kind(); {
	case kind == reflect.String && isString(n):
		v.SetString(n.Value)
	case kind == reflect.String && n.Kind == yaml.ScalarNode:
		d.fail(n, path, "want a string, not %s: put it in quotes", describe(n))
	case kind == reflect.String:
		d.fail(n, path, "want a string, not %s", describe(n))
	case kind == reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Tag != "!!bool" || err != nil {
			d.fail(n, path, "want true or false, not %s", describe(n))
			return
		}
		v.SetBool(b)
	default:
		var number int32
		if n.Tag != "!!int" || n.Decode(&number) != nil || v.Kind() != reflect.Int32 {
			d.fail(n, path, "want a 32-bit number, not %s", describe(n))
			return
		}
		v.SetInt(int64(number))
	}
}

// isString says whether the node is a string, or the timestamp that YAML takes an unquoted date for: kubectl takes it as text, too.
func isString(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || n.Tag == "!!timestamp")
}

func (d *decoder) intOrString(n *yaml.Node, path *field.Path, out *intstr.IntOrString) {
	if isString(n) {
		*out = intstr.FromString(n.Value)
		return
	}
	var number int32
	if n.Tag != "!!int" || n.Decode(&number) != nil {
		d.fail(n, path, "want a port number or a port name, not %s", describe(n))
		return
	}
	*out = intstr.FromInt32(number)
}

func (d *decoder) structure(n *yaml.Node, path *field.Path, v reflect.Value) {
	index := d.fieldsOf(v.Type())
	for key, f := range d.mapping(n, path) {
		i, known := index[key]
		switch {
		case known:
			d.value(f.value, path.Child(key), v.Field(i))
		case d.strict:
			d.fail(f.key, path, "unknown field %.80q", key)
		}
	}
}

// fieldsOf returns the fields of a struct by their json names.
func (d *decoder) fieldsOf(t reflect.Type) map[string]int {
	if index, ok := d.fields[t]; ok {
		return index
	}
	index := make(map[string]int)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		index[name] = i
	}
	delete(index, "") // inlined, or without a tag
	d.fields[t] = index
	return index
}

// list returns the elements of a list. One that is null is a problem and nil: of all that an unfinished "- " could mean, an empty
// rule, which allows everything, is the worst.
func (d *decoder) list(n *yaml.Node, path *field.Path) []*yaml.Node {
	n = d.spend(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "want a list, not %s", describe(n))
		return nil
	}
	children := make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		if c := d.spend(child); !isNull(c) {
			children[i] = c
			continue
		}
		d.fail(child, path.Index(i), "want a value, not null")
	}
	return children
}
