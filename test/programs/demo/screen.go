// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/netpold/netpold/test/harness/pods"
)

// screen prints the demo, in colour on a terminal.
type screen struct {
	w      io.Writer
	colour bool
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{f, terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// ANSI colours.
const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	dim   = "\x1b[2m"
	reset = "\x1b[0m"
)

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return colour + text + reset
}

func (s *screen) title(text string) { fmt.Fprintf(s.w, "\n%s\n", s.paint(bold, "━━━ "+text)) }
func (s *screen) say(text string)   { fmt.Fprintf(s.w, "\n%s\n", text) }

// block prints a file or a listing, indented.
func (s *screen) block(text string) {
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		fmt.Fprint(s.w, s.paint(dim, "    "+strings.TrimRight(line, "\n")), "\n")
	}
}

// matrix prints who reaches whom.
func (s *screen) matrix(all []*pods.Pod, targets []pods.Target, got [][]bool) {
	width := 0
	for _, p := range all {
		width = max(width, len(p.String()))
	}
	fmt.Fprintf(s.w, "    %-*s", width, "from \\ to")
	for _, t := range targets {
		fmt.Fprintf(s.w, "  %s", t)
	}
	fmt.Fprintln(s.w)
	for i, p := range all {
		fmt.Fprintf(s.w, "    %-*s", width, p)
		for j, t := range targets {
			mark, colour := "✗", red
			if got[i][j] {
				mark, colour = "✓", green
			}
			if p == t.Pod {
				mark, colour = "·", dim
			}
			fmt.Fprint(s.w, "  ", s.paint(colour, mark))
			if j < len(targets)-1 {
				fmt.Fprint(s.w, strings.Repeat(" ", len(t.String())-1))
			}
		}
		fmt.Fprintln(s.w)
	}
}

// talks prints which of some pairs connect.
func (s *screen) talks(all []pods.Talk, got []bool) {
	for i, t := range all {
		mark := s.paint(red, "✗")
		if got[i] {
			mark = s.paint(green, "✓")
		}
		fmt.Fprintf(s.w, "    %s %s → %s\n", mark, t.From, t.To)
	}
}

// drops prints the first few lines of netpold's log about blocked attempts.
func (s *screen) drops(lines []string) {
	const few = 3
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(s.w, "    netpold logs:")
	for i, line := range lines {
		if i == few {
			fmt.Fprintf(s.w, "      … and %d more\n", len(lines)-few)
			break
		}
		fmt.Fprintf(s.w, "      %s\n", s.paint(dim, line))
	}
}
