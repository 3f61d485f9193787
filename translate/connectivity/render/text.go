// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// table is rows of cells. The parts of a cell share a line as far as there is room.
type table struct {
	header []string
	width  []int                // maximum of each column, in characters
	rows   iter.Seq[[][]string] // generated on each pass: all of them may take a hundred megabytes
}

// Text writes a view for a terminal of 100 columns: the workloads, then what is open.
func Text(w io.Writer, v View) error {
	for i, t := range v.tables() {
		if i > 0 {
			fmt.Fprintln(w) //nolint:errcheck // the next write fails too
		}
		if err := t.text(w); err != nil {
			return err
		}
	}
	if text := v.auditedText(); text != "" {
		_, err := io.WriteString(w, "\n"+text)
		return err
	}
	return nil
}

// auditedText names the policies that do not count, of all namespaces, as those of others could matter, too.
func (v View) auditedText() string { return auditedText("Only audited, not counted", v.Audited()) }

// tables returns the workloads, and what is open.
func (v View) tables() [2]table {
	one := func(s string) []string { return []string{s} }
	workloads := table{header: []string{"WORKLOAD", "KIND", "PODS", "INGRESS", "EGRESS"},
		width: []int{34, 12, 5, 22, 22}}
	workloads.rows = func(yield func([][]string) bool) {
		for _, i := range v.shown() {
			if !yield([][]string{
				one(v.Workloads[i].String()), one(v.Workloads[i].Kind), one(strconv.Itoa(v.Pods(i))),
				strings.Split(v.isolation(policy.Ingress, i), ", "), strings.Split(v.isolation(policy.Egress, i), ", "),
			}) {
				return
			}
		}
	}
	open := table{header: []string{"FROM", "TO", "PORTS"}, width: []int{36, 38, 23}}
	lines := v.sorted()
	open.rows = func(yield func([][]string) bool) {
		for _, l := range lines {
			if !yield([][]string{v.Text(l.From), v.Text(l.To), splitPorts(l.String())}) {
				return
			}
		}
	}
	return [2]table{workloads, open}
}

// line is a connection with the first part of its sides' text.
type line struct {
	connectivity.Connection
	from, to string
	specific bool
}

// sorted returns the connections sorted by text, the specific ones first.
func (v View) sorted() []line {
	lines := make([]line, len(v.Connections))
	for i, c := range v.Connections {
		lines[i] = line{c, v.Text(c.From)[0], v.Text(c.To)[0], v.specific(c)}
	}
	slices.SortStableFunc(lines, func(a, b line) int {
		if a.specific != b.specific {
			if a.specific {
				return -1
			}
			return 1
		}
		if a.from != b.from {
			return cmp.Compare(a.from, b.from)
		} else if n := v.compare(a.From, b.From); n != 0 {
			return n
		} else if a.to != b.to {
			return cmp.Compare(a.to, b.to)
		}
		return v.compare(a.To, b.To)
	})
	return lines
}

// compare compares sides by their text.
func (v View) compare(a, b connectivity.Side) int {
	if slices.Equal(a.Workloads, b.Workloads) && slices.Equal(a.Networks, b.Networks) {
		return 0
	}
	return slices.Compare(v.Text(a), v.Text(b))
}

func splitPorts(text string) []string {
	return strings.Split(strings.ReplaceAll(text, "; ", ", "), ", ")
}

// text writes the table in columns.
func (t table) text(w io.Writer) error {
	out := bufio.NewWriter(w) // it keeps the first error, for Flush
	widths := make([]int, len(t.header))
	for c, name := range t.header {
		widths[c] = len(name)
	}
	var line []byte
	for row := range t.rows {
		for c, parts := range row {
			for len(parts) > 0 {
				line, parts = joinLine(line[:0], parts, t.width[c])
				widths[c] = max(widths[c], utf8.RuneCount(line))
			}
		}
	}
	write := func(cells [][]string) {
		for more := true; more; {
			more = false
			blanks := 0
			for c := range cells {
				if len(cells[c]) > 0 {
					line, cells[c] = joinLine(line[:0], cells[c], t.width[c])
				} else {
					line = line[:0]
				}
				if len(line) > 0 {
					for ; blanks > 0; blanks-- {
						_ = out.WriteByte(' ')
					}
					_, _ = out.Write(line)
					blanks -= utf8.RuneCount(line)
				}
				more, blanks = more || len(cells[c]) > 0, blanks+widths[c]+2
			}
			_ = out.WriteByte('\n')
		}
	}
	titles := make([][]string, len(t.header))
	for c, name := range t.header {
		titles[c] = []string{name}
	}
	write(titles)
	for row := range t.rows {
		write(row)
	}
	return out.Flush()
}

// joinLine appends as many parts to a line as fit its width, and returns the rest. A longer part gets its own line.
func joinLine(line []byte, parts []string, width int) (joined []byte, rest []string) {
	for i, p := range parts {
		comma := min(1, len(parts)-1-i)
		if i > 0 {
			if len(line)+1+len(p)+comma > width {
				return line, parts[i:]
			}
			line = append(line, ' ')
		}
		line = append(line, p...)
		line = append(line, ","[:comma]...)
	}
	return line, nil
}

// Markdown writes a view for a pull request.
func Markdown(w io.Writer, v View) error {
	b := bufio.NewWriter(w) // it keeps the first error, for Flush
	for i, t := range v.tables() {
		fmt.Fprint(b, []string{"### Workloads\n\n", "\n### What is open\n\n"}[i])
		t.markdown(b)
	}
	if text := v.auditedText(); text != "" {
		fmt.Fprint(b, "\n"+escape(text))
	}
	return b.Flush()
}

// longest is how many parts of a cell Markdown shows before folding the rest.
const longest = 6

// markdown writes the table in Markdown.
func (t table) markdown(b *bufio.Writer) {
	rule, escaped := strings.Repeat("|---", len(t.header))+"|\n", escaper()
	fmt.Fprint(b, "| "+strings.Join(t.header, " | ")+" |\n"+rule)
	for row := range t.rows {
		for _, cell := range row {
			text := escaped.Replace(strings.Join(cell[:min(longest, len(cell))], ", "))
			if len(cell) > longest {
				rest := escaped.Replace(strings.Join(cell[longest:], ", "))
				text += fmt.Sprintf(" <details><summary>%d more</summary>%s</details>", len(cell)-longest, rest)
			}
			fmt.Fprint(b, "| "+text+" ")
		}
		fmt.Fprint(b, "|\n")
	}
}

// escape keeps text from being read as Markdown.
func escape(text string) string { return escaper().Replace(text) }

// escaper returns a replacer for escape; it is not cheap to make.
func escaper() *strings.Replacer {
	return strings.NewReplacer("*", `\*`, "|", `\|`, "_", `\_`, "<", "&lt;", ">", "&gt;")
}
