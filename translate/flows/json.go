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

// Read returns the flows that r has as JSON, one object per line. Empty lines are left out, and so are fields that are
// not known: a newer netpold may have written them. The error names the line.
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

// Reader reads flows as they come. It is for one goroutine.
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

// Next returns the next flow, [io.EOF] after the last, or an error that names the line. After an error of a line, the
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
		return Flow{}, fmt.Errorf("line %d: it is longer than %d bytes: want a flow for each line", r.line+1, maxLine)
	case err != nil:
		return Flow{}, fmt.Errorf("read flows: %w", err)
	}
	return Flow{}, io.EOF
}

// parse reads a line.
func parse(text []byte) (Flow, error) {
	if text[0] != '{' {
		return Flow{}, errors.New("it is not a JSON object: " +
			"want what \"netpold flows -o json\" prints, a flow for each line")
	}
	var f Flow
	err := json.Unmarshal(text, &f)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return Flow{}, fmt.Errorf("%s: it is a JSON %s, which does not fit", kind.Field, kind.Value)
	case err != nil && len(text) < 3:
		return Flow{}, errors.New("the object goes on in the next line: " +
			"want each flow in one line (jq -c writes them so)")
	case err != nil:
		return Flow{}, fmt.Errorf("it is not a flow: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if err := f.Fault(); err != nil {
		return Flow{}, fmt.Errorf("it is not a flow: %w%s", err, hint(text))
	}
	return f, nil
}

// hint says what the line may be instead, or "".
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
