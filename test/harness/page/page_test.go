// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/netpold/netpold/test/harness/page"
)

// TestMatches: the comparison can fail.
func TestMatches(t *testing.T) {
	for text, want := range map[string]bool{
		"a b/a b": true, "a b/a": false, "a/a b": false, "a b c/a …": true, "a b c/… c": true, "a b c/… d": false,
		"abc/a…": true, "abc/b…": false, "a b c d/a … d": true,
		"abcd/a…c…": true, "abcd/…bc…d": true, "abcd/a…cb…": false, "abcd/a…c": false, "abcd/…d": true,
		"ab/ab…b": false,
	} {
		got, said, _ := strings.Cut(text, "/")
		if page.Matches(strings.Fields(got), strings.Fields(said)) != want {
			t.Errorf("%s: want %t", text, want)
		}
	}
}

// TestSteps reads a page.
func TestSteps(t *testing.T) {
	got := page.Steps("x\n\n    $ netpold explain -f a b\n    no\n\n    n\n\n<!-- do that -->\n\n" +
		"    $ netpold drops\n    y\n\n" +
		"```\n$ netpold render -f c\nz\n\nw\n```\n")
	want := []page.Step{
		{Command: "netpold explain -f a b", Want: []string{"no", "", "n"}}, {Comment: "do that"},
		{Command: "netpold drops", Want: []string{"y"}},
		{Command: "netpold render -f c", Want: []string{"z", "", "w"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
