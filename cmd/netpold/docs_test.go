// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/test/harness/page"
)

// TestDocs runs the commands of the documentation that need no cluster, in docs/example, and compares what they print.
func TestDocs(t *testing.T) {
	t.Chdir("../..")
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]page.Step)
	for _, name := range append(pages, "README.md", "manifests/README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "docs/adopting.md" { // test/adopting runs all of it
			found[name] = slices.DeleteFunc(page.Steps(string(text)), func(s page.Step) bool {
				return !strings.HasPrefix(s.Command, "netpold ") || !strings.Contains(s.Command, " -f ")
			})
		}
	}
	for _, name := range []string{
		"README.md", "docs/install.md", "docs/operating.md", "docs/how-it-works.md", "docs/security.md",
	} {
		if len(found[name]) == 0 {
			t.Errorf("%s has no example that can be run", name)
		}
	}
	t.Chdir("docs/example")
	for name, all := range found {
		for _, s := range all {
			t.Run(name+" "+s.Command, func(t *testing.T) {
				stdout, stderr, _ := execute(t.Context(), "", strings.Fields(s.Command)[1:]...)
				if !page.Matches(strings.Split(strings.TrimRight(stdout, "\n"), "\n"), s.Want) {
					t.Errorf("the page says\n%s\nnetpold prints\n%s%s", strings.Join(s.Want, "\n"), stdout, stderr)
				}
			})
		}
	}
}

// TestLinks: everything in this repository that the pages link to exists, including headings.
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
