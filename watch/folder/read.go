// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	sigsjson "sigs.k8s.io/json"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// manifest is what a file holds.
type manifest struct {
	objects  []*object
	problems []*Error
	// an object is missing, or incomplete: better keep what the file said before
	broken bool
	torn   bool // empty, or changed while being read: somebody may be writing it
	held   bool // objects are from an earlier state of the file, which is broken now
}

// parseManifest returns the objects of a file, and what is wrong with it.
//
// A NetworkPolicy is in force as far as it can be read, and what cannot be read narrows it; see [reader.policy].
// Unknown fields of a policy are problems, because ignoring a misspelt one could widen it. Unknown fields of pods and
// namespaces are not: the API server that wrote them may be newer than this program. Other kinds are ignored.
func parseManifest(file string, data []byte) manifest {
	r := &reader{file: file}
	for doc, bad := range documents(data) {
		if bad == nil && isNull(doc.text) {
			continue
		}
		r.number++
		r.object = ""
		if bad != nil {
			r.line = bad.line
			r.reject(nil, "%s", plain(bad.problem))
			continue
		}
		r.line = doc.line
		r.document(doc.text, nil, nil)
	}
	if r.number == 1 {
		for _, p := range r.problems {
			p.Document = 0
		}
		for _, o := range r.objects {
			o.at.Document = 0
		}
	}
	return manifest{objects: r.objects, problems: r.problems, broken: r.broken}
}

// reader reads the documents of one file.
type reader struct {
	file   string
	number int    // of the document
	line   int    // where it begins
	object string // the current one

	objects  []*object
	problems []*Error
	broken   bool
}

// reject notes a problem that makes an object missing or incomplete.
func (r *reader) reject(path *field.Path, format string, args ...any) {
	r.fail(path, format, args...)
	r.broken = true
}

// document reads an object or a list of objects. For an item of a typed list, which does not state its own type,
// inherited is the type and path the item's; both are nil for a document.
func (r *reader) document(text json.RawMessage, inherited *typeMeta, path *field.Path) {
	r.object = ""
	var top topLevel
	if inherited != nil {
		top.APIVersion, top.Kind = inherited.APIVersion, inherited.Kind
	}
	twice, err := sigsjson.UnmarshalStrict(text, &top, sigsjson.DisallowDuplicateFields)
	if err != nil {
		r.mistyped(path, err)
		r.broken = true
		return
	}
	t := typeMeta{top.APIVersion, top.Kind}
	item, isList := t.item()
	kind, problem := t.objectKind()
	for _, name := range fieldsOf(twice) {
		if kind != kindPolicy { // which checks all its fields itself
			r.reject(under(path, name), "appears twice")
		}
	}
	switch {
	case t.Kind == "":
		r.reject(path, "kind is missing")
	case t.APIVersion == "":
		r.reject(path, "apiVersion is missing")
	case isList && inherited != nil:
		r.reject(path, "a list inside a list")
	case isList && top.Items == nil:
		r.reject(path, "items is missing")
	case isList:
		r.items(top.Items, item)
	case problem != "" && t.foreign():
		r.fail(path, "%s", problem)
	case problem != "":
		r.reject(path, "%s", problem)
	case kind != "":
		r.read(kind, text, top, path)
	}
}

// items reads the items of a list.
func (r *reader) items(text json.RawMessage, item typeMeta) {
	path := field.NewPath("items")
	before := len(r.problems)
	children := r.list(text, path)
	r.broken = r.broken || len(r.problems) > before
	for i, child := range children {
		if child != nil {
			r.document(child, &item, path.Index(i))
		}
	}
}

// topLevel are the parts of an object, or of a list.
type topLevel struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   json.RawMessage `json:"metadata"`
	Spec       json.RawMessage `json:"spec"`
	Status     json.RawMessage `json:"status"`
	Items      json.RawMessage `json:"items"` // of a list
}

// read reads an object of a kind that matters to policy.
func (r *reader) read(kind objectKind, text json.RawMessage, top topLevel, path *field.Path) {
	r.object = kind.word()
	meta, ok := r.metadata(kind, top.Metadata, path.Child("metadata"))
	if !ok {
		r.broken = true
		return
	}
	o := &object{key: meta.key, at: Error{File: r.file, Line: r.line, Document: r.number, Object: r.object}}
	switch kind {
	case kindPod:
		o.value, ok = r.pod(top, meta, path)
	case kindNamespace:
		o.value = namespace{
			labels: namespaceLabels(meta.key.Name, r.labels(meta.Labels, path.Child("metadata", "labels"))),
			mode:   r.mode(meta.Notes, path.Child("metadata", "annotations")),
		}
	case kindPolicy:
		o.value = r.policy(text, top, meta, path)
	case kindNode:
		o.value = r.node(top, meta, path)
	case kindTier:
		o.value, ok = r.tier(text, path)
	}
	if ok {
		r.objects = append(r.objects, o)
	}
}

// typeMeta is a document's type.
type typeMeta struct{ APIVersion, Kind string }

// item returns the type of the list's items, and false if t is not a list. Items of a plain List state their own.
func (t typeMeta) item() (typeMeta, bool) {
	if t.Kind == "List" {
		return typeMeta{}, true
	}
	item := typeMeta{t.APIVersion, strings.TrimSuffix(t.Kind, "List")}
	kind, _ := item.objectKind()
	return item, item.Kind != t.Kind && kind != ""
}

// objectKind returns the kind if it matters to policy. It returns a problem for a type that looks like a misspelt one:
// ignored, a policy would not be in force and nobody would know.
func (t typeMeta) objectKind() (objectKind, string) {
	if t.Kind == string(kindNode) && t.APIVersion == kindNode.apiVersion() {
		return kindNode, ""
	}
	for _, kind := range []objectKind{kindPod, kindNamespace, kindTier, kindPolicy} {
		near := strings.ToLower(string(kind))
		switch text := strings.ToLower(t.Kind); {
		case t.Kind == string(kind) && t.APIVersion == kind.apiVersion():
			return kind, ""
		case text == near, text == near+"s", kind == kindPolicy && text == "networkpolicies",
			kind == kindPolicy && t.group() == "networking.k8s.io" && strings.HasPrefix(text, "network"),
			kind == kindTier && text == "clusternetworkpolicies",
			kind == kindTier && t.group() == v1alpha2.GroupName && !strings.HasSuffix(t.Kind, "List"):
			return "", fmt.Sprintf("want kind %s of apiVersion %s, not %s of %s", kind, kind.apiVersion(),
				quote(t.Kind), quote(t.APIVersion))
		}
	}
	return "", ""
}

func (t typeMeta) group() string {
	version, _ := schema.ParseGroupVersion(t.APIVersion) // an invalid one has no group
	return version.Group
}

// foreign says whether the type is another project's, such as Calico's NetworkPolicy. That deserves a log line, but
// does not break the file.
func (t typeMeta) foreign() bool {
	return strings.Contains(t.group(), ".") && !strings.HasPrefix(t.group(), "networking.k8s")
}
