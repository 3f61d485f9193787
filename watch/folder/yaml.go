// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"
)

// document is one document of a file, as JSON.
type document struct {
	line int // where it begins
	text json.RawMessage
}

// syntaxError says why text is not YAML or JSON.
type syntaxError struct {
	line    int
	problem string
}

// documents yields the documents of a file. An error in one does not stop the next.
//
// YAML is read by kubectl's library, and means the same: YAML 1.1 with merge keys, where "on" is a boolean. It is not
// called through sigs.k8s.io/yaml, which ignores what follows a document and does not limit the expansion of aliases of
// long strings. JSON is read separately, although YAML claims to include it: the library fails on pairs of escaped
// surrogates and on concatenated documents.
func documents(data []byte) iter.Seq2[document, *syntaxError] {
	return func(yield func(document, *syntaxError) bool) {
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
		if !utf8.Valid(data) {
			yield(document{}, &syntaxError{1, "not UTF-8 text"})
			return
		}
		for p := range split(data) {
			docs, bad := p.readJSON()
			if bad != nil {
				inYAML, badYAML := p.readYAML()
				if badYAML == nil || !looksLikeJSON.Match(p.text) {
					docs, bad = inYAML, badYAML
				}
			}
			for _, doc := range docs {
				if !yield(doc, nil) {
					return
				}
			}
			if bad != nil && !yield(document{}, bad) {
				return
			}
		}
	}
}

// part is the text of a document of a stream of YAML.
type part struct {
	text  []byte
	begin int // line of its first byte, counted from 1
	line  int // first line with content, 0 if there is none
}

// split yields the documents of a stream of YAML. One ends before a line "---" and after a line "...".
func split(data []byte) iter.Seq[part] {
	return func(yield func(part) bool) {
		p := part{begin: 1}
		start, end, line := 0, 0, 0
		next := func() bool {
			p.text = data[start:end]
			done := p.line > 0 && !yield(p)
			p, start = part{begin: line + 1}, end
			return !done
		}
		for text := range bytes.Lines(data) {
			if p.line > 0 && isMarker(text, "---") && !next() {
				return
			}
			end += len(text)
			line++
			if p.line == 0 && !isPreamble(text) {
				p.line = line
			}
			if isMarker(text, "...") && !next() {
				return
			}
		}
		next()
	}
}

func isMarker(line []byte, marker string) bool {
	rest, found := bytes.CutPrefix(line, []byte(marker))
	return found && (len(rest) == 0 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])))
}

// isPreamble says whether a line may precede the content of a document: it is blank, a comment, a directive or "---".
func isPreamble(line []byte) bool {
	if isMarker(line, "---") {
		line = line[len("---"):]
	}
	text := bytes.TrimSpace(line)
	return len(text) == 0 || text[0] == '#' || line[0] == '%'
}

// looksLikeJSON tells JSON from a YAML flow mapping such as {kind: Pod}.
var looksLikeJSON = regexp.MustCompile(`^\s*\{\s*["}]`) //nolint:gochecknoglobals // never changes

// readJSON reads JSON documents, up to the first that is not.
func (p part) readJSON() ([]document, *syntaxError) {
	lineAt := func(offset int) int { return p.begin + bytes.Count(p.text[:offset], []byte("\n")) }
	d := json.NewDecoder(bytes.NewReader(p.text))
	var docs []document
	for {
		var doc json.RawMessage
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			at := len(p.text)
			if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
				at = min(int(syntax.Offset), at)
			}
			return docs, &syntaxError{lineAt(at), strings.TrimPrefix(err.Error(), "json: ")}
		}
		docs = append(docs, document{line: lineAt(int(d.InputOffset()) - len(doc)), text: doc})
	}
}

// readYAML reads a document in YAML.
func (p part) readYAML() ([]document, *syntaxError) {
	values, err := decodeYAML[any](p.text, true)
	if twice := (*yaml.TypeError)(nil); errors.As(err, &twice) { // a duplicate key
		if bytes.Contains(p.text, []byte("<<")) { // or a key that overrides a merged one
			values, err = decodeYAML[any](p.text, false)
		} else {
			values, err = decodeYAML[yaml.MapSlice](p.text, false)
		}
	}
	if err != nil {
		return nil, p.yamlError(err)
	}
	var docs []document
	for _, v := range values {
		w := jsonWriter{limit: maxExpansion + 10*len(p.text)}
		if err := w.write(v, maxDepth); err != nil {
			return nil, &syntaxError{p.line, strings.TrimPrefix(err.Error(), "json: ")}
		}
		docs = append(docs, document{p.line, w.text})
	}
	return docs, nil
}

// decodeYAML returns the documents of a stream of YAML, each in a T. If strict, a duplicate key is an error.
func decodeYAML[T any](text []byte, strict bool) (values []any, err error) {
	defer func() {
		if r := recover(); r != nil { // the library has panicked on hostile input, and a file must not end the daemon
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.SetStrict(strict)
	for {
		var v T
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
}

// yamlErrorText matches an error of the decoder, which has a line unless that is the first.
var yamlErrorText = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`) //nolint:gochecknoglobals // never changes

// yamlError converts an error of the decoder.
func (p part) yamlError(err error) *syntaxError {
	found := yamlErrorText.FindStringSubmatch(err.Error())
	if found[1] == "" {
		return &syntaxError{p.begin, found[2]}
	}
	line, _ := strconv.Atoi(found[1])
	if strings.HasPrefix(found[2], "did not find expected") {
		line++ // the parser, unlike the scanner, counts from 0
	}
	return &syntaxError{p.begin + min(line-1, bytes.Count(bytes.TrimSuffix(p.text, []byte("\n")), []byte("\n"))),
		found[2]}
}

// Limits on the size of a document. Aliases make it larger than its text: the decoder limits their number, not their
// length.
const (
	maxExpansion = 1 << 16 // bytes, plus ten for each byte of text
	maxDepth     = 1000
)

// jsonWriter writes decoded YAML as JSON. It keeps duplicate keys, for strict decoders to see.
type jsonWriter struct {
	text  []byte
	limit int // in bytes
}

func (w *jsonWriter) write(v any, depth int) error {
	switch {
	case len(w.text) > w.limit:
		return errors.New("YAML aliases expand to too much text")
	case depth == 0:
		return errors.New("nested too deep")
	}
	switch v := v.(type) {
	case []any:
		w.text = append(w.text, '[')
		for i, element := range v {
			if i > 0 {
				w.text = append(w.text, ',')
			}
			if err := w.write(element, depth-1); err != nil {
				return err
			}
		}
		w.text = append(w.text, ']')
		return nil
	case map[any]any:
		items := make(yaml.MapSlice, 0, len(v))
		for key, value := range v {
			items = append(items, yaml.MapItem{Key: key, Value: value})
		}
		slices.SortFunc(items, func(a, b yaml.MapItem) int {
			return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key))
		})
		return w.object(items, depth)
	case yaml.MapSlice:
		return w.object(v, depth)
	}
	text, err := json.Marshal(v)
	w.text = append(w.text, text...)
	return err
}

func (w *jsonWriter) object(items yaml.MapSlice, depth int) error {
	w.text = append(w.text, '{')
	for i, item := range items {
		if i > 0 {
			w.text = append(w.text, ',')
		}
		if err := w.write(fmt.Sprint(item.Key), depth); err != nil {
			return err
		}
		w.text = append(w.text, ':')
		if err := w.write(item.Value, depth-1); err != nil {
			return err
		}
	}
	w.text = append(w.text, '}')
	return nil
}
