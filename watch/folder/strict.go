// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"bytes"
	gojson "encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/json"
)

// An Error says what is wrong with a manifest.
type Error struct {
	File string
	// counted from 1: the line of the problem if known, else of the document; 0 for the file as a whole
	Line     int
	Document int    // counted from 1; 0 if the file has only one
	Object   string // kind and name, such as "NetworkPolicy shop/db"; "" if unknown
	Field    string // such as "spec.ingress[0].ports[0].port", or ""
	Problem  string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Document > 0 {
		fmt.Fprintf(&b, ": document %d", e.Document)
	}
	for _, part := range []string{e.Object, e.Field, e.Problem} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	return b.String()
}

// fail notes a problem with a field.
func (r *reader) fail(path *field.Path, format string, args ...any) {
	e := &Error{File: r.file, Line: r.line, Document: r.number, Object: r.object, Problem: fmt.Sprintf(format, args...)}
	if path != nil {
		e.Field = path.String()
	}
	r.problems = append(r.problems, e)
}

// decode sets out as far as it can, and says whether there was no problem. It ignores fields that out does not have.
func (r *reader) decode(text gojson.RawMessage, path *field.Path, out any) bool {
	if isNull(text) {
		return true
	}
	err := json.UnmarshalCaseSensitivePreserveInts(text, out)
	if err != nil {
		r.mistyped(path, err)
	}
	return err == nil
}

// strict is decode, but a field that out does not have is a problem.
func (r *reader) strict(text gojson.RawMessage, path *field.Path, out any) bool {
	if isNull(text) {
		return true
	}
	unknown, err := json.UnmarshalStrict(text, out, json.DisallowUnknownFields)
	if err != nil {
		r.mistyped(path, err)
	}
	for _, name := range fieldsOf(unknown) {
		r.fail(under(path, name), "unknown field")
	}
	return err == nil && len(unknown) == 0
}

// whole is strict, but null in a list is a problem: of all that an unfinished "- " could mean, an empty rule or port,
// which allows everything, is the worst. It is also false for duplicate fields, which the policy has noted.
func (r *reader) whole(text gojson.RawMessage, path *field.Path, out any) bool {
	var v any
	_ = json.UnmarshalCaseSensitivePreserveInts(text, &v) // it has been decoded before
	null := hasNull(v)
	if null {
		r.fail(path, "null in a list")
	}
	return r.strict(text, path, out) && !null && len(duplicates(text)) == 0
}

// hasNull says whether null is an element of a list somewhere in v.
func hasNull(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.Contains(v, nil) || slices.ContainsFunc(v, hasNull)
	case map[string]any:
		for _, value := range v {
			if hasNull(value) {
				return true
			}
		}
	}
	return false
}

// duplicates returns the fields that appear twice: which of the two is meant is unknown.
func duplicates(text gojson.RawMessage) []string {
	if isNull(text) {
		return nil
	}
	var v any
	twice, _ := json.UnmarshalStrict(text, &v, json.DisallowDuplicateFields) // as above
	return fieldsOf(twice)
}

// fieldsOf returns the fields that strict errors name.
func fieldsOf(problems []error) []string {
	var names []string
	for _, p := range problems {
		if e := json.FieldError(nil); errors.As(p, &e) {
			names = append(names, e.FieldPath())
		}
	}
	return names
}

// under returns the field below path that a library names. The name may contain text of the manifest.
func under(path *field.Path, name string) *field.Path {
	if name == "" {
		return path
	}
	return path.Child(plain(name))
}

// mistyped notes that a field has the wrong type.
func (r *reader) mistyped(path *field.Path, err error) {
	e := (*gojson.UnmarshalTypeError)(nil)
	if !errors.As(err, &e) {
		r.fail(path, "%s", plain(err.Error()))
		return
	}
	hint := ""
	if e.Type.Kind() == reflect.String && (strings.HasPrefix(e.Value, "number") || e.Value == "bool") {
		hint = ": put it in quotes"
	}
	r.fail(under(path, e.Field), "want %s, got %s%s", wanted(e.Type), e.Value, hint)
}

// wanted names a type.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a 32-bit number"
}

// list returns the elements of a list. A null element is a problem, as for whole, and comes back nil.
func (r *reader) list(text gojson.RawMessage, path *field.Path) []gojson.RawMessage {
	var elements []gojson.RawMessage
	r.decode(text, path, &elements)
	for i, element := range elements {
		if isNull(element) {
			r.fail(path.Index(i), "want a value, not null")
			elements[i] = nil
		}
	}
	return elements
}

// elements returns the elements of a list that read accepts. Any other is a problem.
func elements[T any](r *reader, text gojson.RawMessage, path *field.Path,
	read func(gojson.RawMessage, *field.Path, any) bool) []T {
	var list []T
	for i, element := range r.list(text, path) {
		var v T
		if element != nil && read(element, path.Index(i), &v) {
			list = append(list, v)
		}
	}
	return list
}

// isNull says whether a value is absent or null, which mean the same.
func isNull(text gojson.RawMessage) bool { return len(text) == 0 || bytes.Equal(text, []byte("null")) }

// quote makes foreign text fit for a one-line error.
func quote(text string) string { return fmt.Sprintf("%.80q", text) }

// plain returns text as it is, unless it does not fit a one-line error.
func plain(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return quote(text)
	}
	return text
}
