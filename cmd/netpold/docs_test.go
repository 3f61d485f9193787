// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// example is a command of the documentation, and what it is said to print: a line "…" stands for any lines, and a
// line that ends with it for all that begin so.
type example struct {
	command string
	want    []string
}

// TestDocs runs the commands of the documentation that need no cluster, in docs/example, and compares what they print.
func TestDocs(t *testing.T) {
	t.Chdir("../..")
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]example)
	for _, page := range append(pages, "README.md", "manifests/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found[page] = examples(string(text))
	}
	for _, page := range []string{
		"README.md", "docs/install.md", "docs/operating.md", "docs/how-it-works.md", "docs/security.md",
	} {
		if len(found[page]) == 0 {
			t.Errorf("%s has no example that can be run", page)
		}
	}
	t.Chdir("docs/example")
	for page, all := range found {
		for _, e := range all {
			t.Run(page+" "+e.command, func(t *testing.T) {
				stdout, stderr, _ := execute(t.Context(), "", strings.Fields(e.command)...)
				if !matches(strings.Split(strings.TrimRight(stdout, "\n"), "\n"), e.want) {
					t.Errorf("the page says\n%s\nnetpold prints\n%s%s", strings.Join(e.want, "\n"), stdout, stderr)
				}
			})
		}
	}
}

// TestLinks holds that what the pages link to in this repository is there, headings too.
func TestLinks(t *testing.T) {
	t.Chdir("../..")
	pages := []string{"README.md", "manifests/README.md", "translate/README.md", "CHANGELOG.md"}
	more, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link, punctuation := regexp.MustCompile(`\]\(([^)]+)\)`), regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, page := range append(pages, more...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
			found, content := anchor == "", ""
			if b, err := os.ReadFile(target); err == nil {
				content = string(b)
			}
			for line := range strings.Lines(content) {
				heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
				slug := punctuation.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
				found = found || ok && strings.HasPrefix(line, "#") && strings.ReplaceAll(slug, " ", "-") == anchor
			}
			if !found {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// examples returns the commands of a page that read files, with what follows them in their block.
func examples(page string) []example {
	var all []example
	fence, open := false, false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			fence, open = !fence, false
			continue
		}
		text, indented := strings.CutPrefix(line, "    ")
		if !fence && !indented {
			open = false
			continue
		}
		if fence {
			text = line
		}
		if command, ok := strings.CutPrefix(text, "$ "); ok {
			command, ok = strings.CutPrefix(command, "netpold ")
			if open = ok && strings.Contains(command, " -f "); open {
				all = append(all, example{command: command})
			}
		} else if open {
			last := &all[len(all)-1]
			last.want = append(last.want, text)
		}
	}
	return all
}

// matches says whether the lines are what an example wants.
func matches(got, want []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "…" {
		for skip := range len(got) + 1 {
			if matches(got[skip:], want[1:]) {
				return true
			}
		}
		return false
	}
	if len(got) == 0 {
		return false
	}
	prefix, cut := strings.CutSuffix(want[0], "…")
	return (got[0] == want[0] || cut && strings.HasPrefix(got[0], prefix)) && matches(got[1:], want[1:])
}

// TestMatches holds that the comparison of TestDocs can fail.
func TestMatches(t *testing.T) {
	for text, want := range map[string]bool{
		"a b/a b": true, "a b/a": false, "a/a b": false, "a b c/a …": true, "a b c/… c": true, "a b c/… d": false,
		"abc/a…": true, "abc/b…": false, "a b c d/a … d": true,
	} {
		got, said, _ := strings.Cut(text, "/")
		if matches(strings.Fields(got), strings.Fields(said)) != want {
			t.Errorf("%s: want %t", text, want)
		}
	}
	all := examples("x\n\n    $ netpold explain -f a b\n    no\n\n    $ netpold drops\n    y\n\n" +
		"```\n$ netpold render -f c\nz\n\nw\n```\n")
	want := []example{{"explain -f a b", []string{"no"}}, {"render -f c", []string{"z", "", "w"}}}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("examples: %+v, want %+v", all, want)
	}
}
