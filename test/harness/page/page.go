// SPDX-License-Identifier: Apache-2.0

// Package page reads the commands of a documentation page and their expected output, for tests that run them.
package page

import "strings"

// Step is a command of a page: a line of a code block that begins with "$ ", with its output, which follows it in the
// block. Or it is a hidden comment of the page: "<!-- … -->".
type Step struct {
	Command string // without "$ "
	Want    []string
	Comment string // without the marks
}

// Steps returns the steps of a Markdown page, in order.
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
		} else if !indented && line != "" {
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
		for n := len(all[i].Want); n > 0 && all[i].Want[n-1] == ""; n-- { // after the block
			all[i].Want = all[i].Want[:n-1]
		}
	}
	return all
}

// Matches says whether lines match a step's output: a line "…" stands for any lines, and "…" in a line for any text.
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
	return like(got[0], want[0]) && Matches(got[1:], want[1:])
}

// like says whether a line matches a pattern.
func like(got, want string) bool {
	parts := strings.Split(want, "…")
	rest, ok := strings.CutPrefix(got, parts[0])
	if !ok || len(parts) == 1 {
		return ok && rest == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[last])
}
