// SPDX-License-Identifier: Apache-2.0

// Package rooms_test compares the imports of the program with the linter's lists and the drawings.
package rooms_test

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	root   = "../.."
	module = "github.com/netpold/netpold/"
)

// imports returns which of our packages each package below nft, translate and watch imports, all by folder.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`,
		"./nft/...", "./translate/...", "./watch/...")
	list.Dir = root
	text, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module)
		all[from] = []string{}
		for _, word := range words[1:] {
			if to, own := strings.CutPrefix(word, module); own {
				all[from] = append(all[from], to)
			}
		}
		slices.Sort(all[from])
	}
	return all
}

// TestLists: the linter's list of each package has exactly those of our packages that it imports.
func TestLists(t *testing.T) {
	text, err := os.ReadFile(root + "/.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]struct {
						Files    []string
						ListMode string `json:"list-mode"`
						Allow    []string
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	lists := make(map[string][]string)
	for _, rule := range config.Linters.Settings.Depguard.Rules {
		if rule.ListMode != "strict" {
			continue
		}
		of := strings.TrimSuffix(strings.TrimPrefix(rule.Files[0], "**/"), "/*.go")
		lists[of] = []string{}
		for _, allowed := range rule.Allow {
			if to, own := strings.CutPrefix(allowed, module); own {
				lists[of] = append(lists[of], strings.TrimSuffix(to, "$"))
			}
		}
		slices.Sort(lists[of])
	}
	if diff := cmp.Diff(lists, imports(t)); diff != "" {
		t.Errorf("the lists of .golangci.yml (-) and the imports (+):\n%s", diff)
	}
}

// drawing returns what a file has below its heading "Rooms".
func drawing(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(path.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	_, rooms, found := strings.Cut(string(text), "# Rooms\n")
	if !found {
		t.Fatalf("%s has no heading Rooms", file)
	}
	return rooms
}

// TestDrawings: every package is in the drawing of its part.
func TestDrawings(t *testing.T) {
	files := map[string]string{"nft": "nft/doc.go", "translate": "translate/README.md", "watch": "watch/doc.go"}
	for room := range imports(t) {
		top, _, _ := strings.Cut(room, "/")
		name := regexp.MustCompile(`\b` + path.Base(room) + `\b`)
		if !name.MatchString(drawing(t, files[top])) {
			t.Errorf("%s is not in the drawing of %s", room, files[top])
		}
	}
}

// TestLevels: packages in a column import only those drawn below them, and the rooms of package watch do not import
// each other.
func TestLevels(t *testing.T) {
	column := regexp.MustCompile(`(?m)^ +([a-z]+) .*`)
	_, text, _ := strings.Cut(drawing(t, "translate/README.md"), "```")
	text, _, _ = strings.Cut(text, "▲") // the rest is drawn upwards
	var levels []string
	for _, found := range column.FindAllStringSubmatch(text, -1) {
		levels = append(levels, "translate/"+found[1])
	}
	levels[0] = "translate"
	if levels[len(levels)-1] != "translate/policy" {
		t.Fatalf("the column has %s", levels)
	}
	for from, all := range imports(t) {
		for _, to := range all {
			high, low := slices.Index(levels, from), slices.Index(levels, to)
			if high >= 0 && low >= 0 && high >= low {
				t.Errorf("%s imports %s, which is drawn above it", from, to)
			}
			if path.Dir(from) == "watch" && path.Dir(to) == "watch" {
				t.Errorf("%s imports its sibling %s", from, to)
			}
		}
	}
}

// TestSize: no package has more than 2,500 lines, tests apart.
func TestSize(t *testing.T) {
	for room := range imports(t) {
		files, err := filepath.Glob(filepath.Join(root, room, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				lines += bytes.Count(text, []byte("\n"))
			}
		}
		if lines > 2500 || lines == 0 {
			t.Errorf("%s has %d lines", room, lines)
		}
	}
}
