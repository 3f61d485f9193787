// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds a line of JSON.
const maxLine = 1 << 20

// Write writes flows as JSON, one object per line.
func Write(w io.Writer, all ...Flow) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, f := range all {
		if err := e.Encode(f); err != nil {
			return fmt.Errorf("write a flow: %w", err)
		}
	}
	return nil
}

// Read returns the flows in r as JSON, one object per line. It skips empty lines and unknown fields, which a newer
// netpold may have written. The error names the line.
func Read(r io.Reader) ([]Flow, error) {
	var all []Flow
	reader := NewReader(r)
	for {
		f, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
}

// Reader reads flows as they arrive. It is for one goroutine.
type Reader struct {
	lines *bufio.Scanner
	line  int
}

// NewReader returns a Reader of JSON, one object per line.
func NewReader(r io.Reader) *Reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	return &Reader{lines: lines}
}

// Next returns the next flow, [io.EOF] after the last, or an error that names the line. After an error in a line, the
// next one can be read.
func (r *Reader) Next() (Flow, error) {
	for r.lines.Scan() {
		r.line++
		text := bytes.TrimSpace(r.lines.Bytes())
		if len(text) == 0 {
			continue
		}
		f, err := parse(text)
		if err != nil {
			return Flow{}, fmt.Errorf("line %d: %w", r.line, err)
		}
		return f, nil
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return Flow{}, fmt.Errorf("line %d: longer than %d bytes; want one flow per line", r.line+1, maxLine)
	case err != nil:
		return Flow{}, fmt.Errorf("read flows: %w", err)
	}
	return Flow{}, io.EOF
}

// parse reads a line.
func parse(text []byte) (Flow, error) {
	if text[0] != '{' {
		return Flow{}, errors.New("not a JSON object; " +
			"want the output of \"netpold flows -o json\", one flow per line")
	}
	var f Flow
	err := json.Unmarshal(text, &f)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return Flow{}, fmt.Errorf("%s: unexpected JSON %s", kind.Field, kind.Value)
	case err != nil && len(text) < 3:
		return Flow{}, errors.New("the object continues on the next line; " +
			"want one flow per line (as jq -c writes them)")
	case err != nil:
		return Flow{}, fmt.Errorf("not a flow: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if err := f.Fault(); err != nil {
		return Flow{}, fmt.Errorf("not a flow: %w%s", err, hint(text))
	}
	return f, nil
}

// hint guesses what the line is instead, or returns "".
func hint(text []byte) string {
	var other struct {
		Src, Dst, Kind any
	}
	switch err := json.Unmarshal(text, &other); {
	case err != nil:
		return ""
	case other.Src != nil && other.Dst != nil:
		return " (it may be a line of \"netpold drops -o json\")"
	case other.Kind != nil:
		return " (it may be a manifest)"
	}
	return ""
}
