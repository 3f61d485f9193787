// SPDX-License-Identifier: Apache-2.0

// Package page reads the commands of a page of the documentation, and what they are said to print, for tests that run
// them.
package page

import "strings"

// Step is a command of a page: a line of a code block that begins with "$ ", and what follows it in the block. Or it is
// a comment of the page, which is not shown: "<!-- … -->".
type Step struct {
	Command string // without "$ "
	Want    []string
	Comment string // without the marks
}

// Steps returns the steps of a page in Markdown, in their order.
func Steps(markdown string) []Step {
	var all []Step
	fence, open := false, false
	for line := range strings.Lines(markdown) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			fence, open = !fence, false
			continue
		}
		text, indented := strings.CutPrefix(line, "    ")
		if fence {
			text = line
		} else if !indented {
			open = false
			if comment, ok := strings.CutPrefix(line, "<!-- "); ok {
				all = append(all, Step{Comment: strings.TrimSuffix(comment, " -->")})
			}
			continue
		}
		if command, ok := strings.CutPrefix(text, "$ "); ok {
			all, open = append(all, Step{Command: command}), true
		} else if open {
			last := &all[len(all)-1]
			last.Want = append(last.Want, text)
		}
	}
	for i := range all {
		for n := len(all[i].Want); n > 0 && all[i].Want[n-1] == ""; n-- { // before the next block that is indented
			all[i].Want = all[i].Want[:n-1]
		}
	}
	return all
}

// Matches says whether lines are what a step wants: a line "…" stands for any lines, and a line that ends with it for
// all that begin so.
func Matches(got, want []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "…" {
		for skip := range len(got) + 1 {
			if Matches(got[skip:], want[1:]) {
				return true
			}
		}
		return false
	}
	if len(got) == 0 {
		return false
	}
	prefix, cut := strings.CutSuffix(want[0], "…")
	return (got[0] == want[0] || cut && strings.HasPrefix(got[0], prefix)) && Matches(got[1:], want[1:])
}
