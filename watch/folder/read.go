// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// manifest is what a file holds.
type manifest struct {
	objects  []*object
	problems []*Error
	broken   bool // an object is missing, or is less than the file means it to be: better keep what the file said before
	held     bool // objects are those of an earlier state of the file, since then it is broken
}

// parseManifest returns the objects of a file, and what is wrong with it.
//
// A NetworkPolicy is in force as far as it can be read, and what cannot be read narrows it; see [reader.policy]. Unknown fields of
// a policy are problems, for a misspelt one that is passed over would widen. Unknown fields of pods and namespaces are not: the API
// server that wrote them may be newer than this program. Other kinds are passed over.
func parseManifest(file string, data []byte) manifest {
	data, bad := checkText(data)
	if bad != nil {
		return brokenManifest(&Error{File: file, Line: bad.line, Problem: bad.problem})
	}
	r, bad := readDocuments(file, data)
	if bad != nil {
		return brokenManifest(&Error{File: file, Line: bad.line, Problem: bad.problem})
	}
	if r.budget < 0 {
		return brokenManifest(&Error{File: file, Problem: "its aliases stand for too much"})
	}
	slices.SortFunc(r.problems, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Error(), b.Error()))
	})
	return manifest{objects: r.objects, problems: r.problems, broken: r.broken}
}

// readDocuments reads a file one document at a time, so that never more than one is in memory as nodes.
func readDocuments(file string, data []byte) (*reader, *syntaxError) {
	var first *syntaxError
	for _, parse := range parsersOf(data) {
		r := &reader{decoder: newDecoder(file, len(data))}
		bad := parse(data, func(n *yaml.Node) {
			if content := r.spend(n); !isNull(content) {
				r.document(content, nil)
			}
		})
		if bad == nil {
			return r, nil
		}
		if first == nil {
			first = bad
		}
	}
	return nil, first
}

// brokenManifest is a file of which nothing can be told.
func brokenManifest(e *Error) manifest {
	return manifest{problems: []*Error{e}, broken: true}
}

// reader reads the documents of one file.
type reader struct {
	*decoder
	objects []*object
	broken  bool
}

// reject notes a problem for which an object is missing, or is less than it was meant to be.
func (r *reader) reject(n *yaml.Node, format string, args ...any) {
	r.fail(n, nil, format, args...)
	r.broken = true
}

// document reads an object or a list of objects. inherited is the type of a typed list's items, which do not say it themselves; nil
// for a document that is no item.
func (r *reader) document(n *yaml.Node, inherited *typeMeta) {
	r.object, r.strict = "", false
	var t typeMeta
	if inherited != nil {
		t = *inherited
	}
	top := r.mapping(n, nil)
	ok := n.Kind == yaml.MappingNode &&
		decode(r.decoder, top["apiVersion"].value, field.NewPath("apiVersion"), &t.APIVersion) &&
		decode(r.decoder, top["kind"].value, field.NewPath("kind"), &t.Kind)
	item, isList := t.item()
	kind, problem := t.objectKind()
	switch {
	case !ok:
		r.broken = true
	case t.Kind == "":
		r.reject(n, "kind is missing")
	case t.APIVersion == "":
		r.reject(n, "apiVersion is missing")
	case isList && inherited != nil:
		r.reject(n, "a list inside a list")
	case isList:
		r.items(n, top["items"].value, item)
	case problem != "" && t.foreign():
		r.fail(n, nil, "%s", problem)
	case problem != "":
		r.reject(n, "%s", problem)
	case kind != "":
		r.read(kind, n, top)
	}
}

// items reads the items of a list.
func (r *reader) items(n, items *yaml.Node, item typeMeta) {
	if items == nil {
		r.reject(n, "items is missing")
		return
	}
	before := len(r.problems)
	children := r.list(items, field.NewPath("items"))
	r.broken = r.broken || len(r.problems) > before
	for _, child := range children {
		if child != nil {
			r.document(child, &item)
		}
	}
}

// read reads an object of a kind that policy is made of.
func (r *reader) read(kind objectKind, n *yaml.Node, top map[string]entry) {
	meta, ok := r.metadata(kind, n, top["metadata"].value)
	if !ok {
		r.broken = true
		return
	}
	o := &object{key: meta.key, file: r.file, line: n.Line}
	switch kind {
	case kindPod:
		o.pod, ok = r.pod(n, top, meta)
	case kindNamespace:
		o.labels = namespaceLabels(meta.key.Name, r.labels(meta.labels))
	case kindPolicy:
		o.policy = r.policy(n, top, meta)
	}
	if ok {
		r.objects = append(r.objects, o)
	}
}

// typeMeta is what a document says of its type.
type typeMeta struct{ APIVersion, Kind string }

// item returns the type of the list's items, and false if t is not a list. Items of a plain List say their own.
func (t typeMeta) item() (typeMeta, bool) {
	if t.Kind == "List" {
		return typeMeta{}, true
	}
	item := typeMeta{t.APIVersion, strings.TrimSuffix(t.Kind, "List")}
	kind, _ := item.objectKind()
	return item, item.Kind != t.Kind && kind != ""
}

// objectKind returns the kind if policy is made of it. It returns a problem for what looks as if it were meant to be one: passed
// over, a policy would not be in force and nobody would know.
func (t typeMeta) objectKind() (objectKind, string) {
	for _, kind := range []objectKind{kindPod, kindNamespace, kindPolicy} {
		near := strings.ToLower(string(kind))
		switch text := strings.ToLower(t.Kind); {
		case t.Kind == string(kind) && t.APIVersion == kind.apiVersion():
			return kind, ""
		case text == near, text == near+"s", kind == kindPolicy && text == "networkpolicies",
			kind == kindPolicy && t.group() == "networking.k8s.io" && strings.HasPrefix(text, "network"):
			return "", fmt.Sprintf("want kind %s of apiVersion %s, not %s of %s", kind, kind.apiVersion(), quote(t.Kind), quote(t.APIVersion))
		}
	}
	return "", ""
}

func (t typeMeta) group() string {
	group, _, found := strings.Cut(t.APIVersion, "/")
	if !found {
		return ""
	}
	return group
}

// foreign says whether the type is another project's, as Calico's NetworkPolicy. That it is not in force is worth a line, but not
// the last state of the file.
func (t typeMeta) foreign() bool {
	return strings.Contains(t.group(), ".") && !strings.HasPrefix(t.group(), "networking.k8s")
}
