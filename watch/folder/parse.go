// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxNesting is how deep JSON may nest; the YAML parser has the same limit.
const maxNesting = 10_000

// syntaxError says why bytes are not YAML or JSON.
type syntaxError struct {
	line    int
	problem string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.problem) }

// parser gives each the documents of a file, one after the other, each with the lines that it was written in.
type parser func(data []byte, each func(*yaml.Node)) *syntaxError

// parsersOf returns the parsers to try on a file, the first whose error counts. JSON is not left to the YAML parser, although YAML claims
// to hold it: a pair of escaped surrogates and concatenated documents are beyond that. But what begins like JSON may be a flow mapping,
// as {kind: Pod}.
func parsersOf(data []byte) []parser {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return []parser{parseJSON, parseYAML}
	}
	return []parser{parseYAML}
}

// checkText returns data without a byte order mark, and an error if it is not text.
func checkText(data []byte) ([]byte, *syntaxError) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if bad := bytes.IndexFunc(data, notText); bad >= 0 {
		return nil, &syntaxError{lineOf(data, bad), "not UTF-8 text"}
	}
	return data, nil
}

// notText says whether r is what no text holds: a byte that is not UTF-8, or a control character.
func notText(r rune) bool {
	return r == utf8.RuneError || r < ' ' && r != '\t' && r != '\n' && r != '\r'
}

// lineOf returns the line of the byte at offset, counted from 1.
func lineOf(data []byte, offset int) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }

// parseYAML is the parser of YAML.
func parseYAML(data []byte, each func(*yaml.Node)) *syntaxError {
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		doc, err := decodeYAML(d)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return yamlError(data, err)
		}
		each(doc.Content[0])
	}
}

// decodeYAML returns the next document. The parser has panicked on hostile input before, and a file must not end the daemon.
func decodeYAML(d *yaml.Decoder) (doc *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	doc = new(yaml.Node)
	return doc, d.Decode(doc)
}

// yamlError finds the line of a YAML error, which is a part of its text or missing: what is in the first line, and aliases.
func yamlError(data []byte, err error) *syntaxError {
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	number, rest, found := strings.Cut(strings.TrimPrefix(problem, "line "), ": ")
	line, atoiErr := strconv.Atoi(number)
	switch {
	case found && atoiErr == nil && strings.HasPrefix(rest, "did not find expected"):
		return &syntaxError{line + 1, rest} // the parser, unlike the scanner, counts from 0
	case found && atoiErr == nil:
		return &syntaxError{line, rest}
	}
	if _, quoted, found := strings.Cut(problem, "unknown anchor '"); found {
		name, _, _ := strings.Cut(quoted, "'")
		return &syntaxError{lineOf(data, max(0, bytes.Index(data, []byte("*"+name)))), problem}
	}
	return &syntaxError{1, problem}
}

// parseJSON is the parser of JSON. Its documents are the nodes that YAML would have.
func parseJSON(data []byte, each func(*yaml.Node)) *syntaxError {
	p := jsonParser{data: data, decoder: json.NewDecoder(bytes.NewReader(data)), line: 1}
	p.decoder.UseNumber()
	for {
		n, err := p.value(maxNesting)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return p.syntaxError(err)
		}
		each(n)
	}
}

// jsonParser turns JSON tokens into nodes.
type jsonParser struct {
	data    []byte
	decoder *json.Decoder
	offset  int // of the last token's end
	line    int // of it
}

// value returns the next value, which nests no deeper than depth.
func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	token, err := p.decoder.Token()
	if err != nil {
		return nil, err
	}
	end := int(p.decoder.InputOffset())
	p.line += bytes.Count(p.data[p.offset:end], []byte("\n"))
	p.offset = end
	if depth == 0 {
		return nil, errors.New("nested too deep")
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: p.line}
	switch t := token.(type) {
	case json.Delim:
		return n, p.content(n, t, depth-1)
	case string:
		n.Tag, n.Value = "!!str", t
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(t)
	case nil:
		n.Tag = "!!null"
	case json.Number:
		n.Tag, n.Value = "!!float", t.String()
		if _, err := t.Int64(); err == nil {
			n.Tag = "!!int"
		}
	}
	return n, nil
}

// content reads what is in the object or array that open begins.
func (p *jsonParser) content(n *yaml.Node, open json.Delim, depth int) error {
	n.Kind, n.Tag = yaml.MappingNode, "!!map"
	if open == '[' {
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	}
	for p.decoder.More() {
		child, err := p.value(depth)
		if err != nil {
			return unexpectedEOF(err)
		}
		n.Content = append(n.Content, child)
	}
	_, err := p.decoder.Token() // the closing delimiter
	return unexpectedEOF(err)
}

// unexpectedEOF tells an end inside a value from one between documents.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (p *jsonParser) syntaxError(err error) *syntaxError {
	offset := int(p.decoder.InputOffset())
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		offset = int(syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		offset, err = len(p.data), errors.New("unexpected end of JSON")
	}
	return &syntaxError{lineOf(p.data, min(max(0, offset), len(p.data))), err.Error()}
}

// isNull says whether a node is absent or null, which mean the same.
func isNull(n *yaml.Node) bool { return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe names the kind of a node, in the words of JSON.
func describe(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "null"
	case n.Kind == yaml.MappingNode:
		return "an object"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!bool":
		return fmt.Sprintf("the boolean %.40q", n.Value)
	case slices.Contains([]string{"!!int", "!!float"}, n.Tag):
		return fmt.Sprintf("the number %.40q", n.Value)
	}
	return fmt.Sprintf("%.40q", n.Value)
}
