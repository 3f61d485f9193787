// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestDrawings: every file named in the package's drawings exists, and has the methods named after it.
func TestDrawings(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(`[\w/]+\.go\b`)
	method := regexp.MustCompile(`\b(Loop|State|Table|Conn|Reader|Counter|Log|Recorder)\.(\w+)`)
	named := 0
	for line := range strings.Lines(string(doc)) {
		drawing, found := strings.CutPrefix(line, "//\t")
		if !found {
			continue
		}
		if n := utf8.RuneCountInString(drawing); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
		var text []byte // of the line's files
		dir := "."
		for _, name := range file.FindAllString(line, -1) {
			path, source := read(dir, name)
			if source == nil {
				t.Errorf("there is no %s: %s", name, line)
			}
			dir = filepath.Dir(path) // of the next one
			text = append(text, source...)
			named++
		}
		for _, m := range method.FindAllStringSubmatch(line, -1) {
			if text != nil && !strings.Contains(string(text), "*"+m[1]+") "+m[2]+"(") {
				t.Errorf("%s is elsewhere: %s", m[0], line)
			}
		}
	}
	if named < 30 {
		t.Errorf("the drawings name %d files", named)
	}
}

// read returns a file of this package, of a folder below it, of the root, or beside the one that was named before.
func read(dir, name string) (string, []byte) {
	for _, base := range []string{".", "..", dir} {
		path := filepath.Join(base, name)
		source, err := os.ReadFile(path)
		if err == nil {
			return path, source
		}
	}
	return "", nil
}
