// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// table is rows of cells, and a cell is parts that stand in a line as far as there is room.
type table struct {
	header []string
	width  []int // that a column may have, in characters
	rows   [][][]string
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

// auditedText names the policies that do not count: all of the cluster, as those of other namespaces could, too.
func (v View) auditedText() string { return auditedText("Only audited, not counted", v.Audited()) }

// tables returns the workloads, and what is open.
func (v View) tables() [2]table {
	one := func(s string) []string { return []string{s} }
	workloads := table{header: []string{"WORKLOAD", "KIND", "PODS", "INGRESS", "EGRESS"},
		width: []int{34, 12, 5, 22, 22}}
	for _, i := range v.shown() {
		kind := v.Workloads[i].Kind
		workloads.rows = append(workloads.rows, [][]string{
			one(v.Workloads[i].String()), one(kind), one(fmt.Sprint(v.Pods(i))),
			strings.Split(v.isolation(policy.Ingress, i), ", "), strings.Split(v.isolation(policy.Egress, i), ", "),
		})
	}
	open := table{header: []string{"FROM", "TO", "PORTS"}, width: []int{36, 38, 23}}
	for _, l := range v.sorted() {
		open.rows = append(open.rows, [][]string{l.from, l.to, splitPorts(l.String())})
	}
	return [2]table{workloads, open}
}

// line is a connection with the text of its sides.
type line struct {
	connectivity.Connection
	from, to []string
	specific bool
}

// sorted returns the connections by their text, those first of which policies say something.
func (v View) sorted() []line {
	lines := make([]line, len(v.Connections))
	for i, c := range v.Connections {
		lines[i] = line{c, v.Text(c.From), v.Text(c.To), v.specific(c)}
	}
	slices.SortStableFunc(lines, func(a, b line) int {
		if a.specific != b.specific {
			if a.specific {
				return -1
			}
			return 1
		}
		return cmp.Or(slices.Compare(a.from, b.from), slices.Compare(a.to, b.to))
	})
	return lines
}

func splitPorts(text string) []string {
	return strings.Split(strings.ReplaceAll(text, "; ", ", "), ", ")
}

// text writes the table in columns.
func (t table) text(w io.Writer) error {
	var b strings.Builder
	widths := make([]int, len(t.header))
	wrapped := make([][][]string, len(t.rows))
	for c, name := range t.header {
		widths[c] = len(name)
		for r, row := range t.rows {
			lines := wrap(row[c], t.width[c])
			wrapped[r] = append(wrapped[r], lines)
			for _, line := range lines {
				widths[c] = max(widths[c], utf8.RuneCountInString(line))
			}
		}
	}
	write := func(cells []string) {
		for c, cell := range cells {
			cells[c] = cell + strings.Repeat(" ", widths[c]-utf8.RuneCountInString(cell))
		}
		b.WriteString(strings.TrimRight(strings.Join(cells, "  "), " ") + "\n")
	}
	write(slices.Clone(t.header))
	for _, row := range wrapped {
		height := 0
		for _, cell := range row {
			height = max(height, len(cell))
		}
		for i := range height {
			cells := make([]string, len(row))
			for c, cell := range row {
				if i < len(cell) {
					cells[c] = cell[i]
				}
			}
			write(cells)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap joins parts to lines of a width. A part that is longer has a line of its own.
func wrap(parts []string, width int) []string {
	var lines []string
	for i, p := range parts {
		if i+1 < len(parts) {
			p += ","
		}
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(p) <= width {
			lines[n-1] += " " + p
			continue
		}
		lines = append(lines, p)
	}
	return lines
}

// Markdown writes a view for a pull request.
func Markdown(w io.Writer, v View) error {
	var b strings.Builder
	for i, t := range v.tables() {
		b.WriteString([]string{"### Workloads\n\n", "\n### What is open\n\n"}[i])
		t.markdown(&b)
	}
	if text := v.auditedText(); text != "" {
		b.WriteString("\n" + escape(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// longest is how many parts of a cell stand in Markdown before the rest is folded away.
const longest = 6

// markdown writes the table in Markdown.
func (t table) markdown(b *strings.Builder) {
	rule := strings.Repeat("|---", len(t.header)) + "|\n"
	b.WriteString("| " + strings.Join(t.header, " | ") + " |\n" + rule)
	for _, row := range t.rows {
		for _, cell := range row {
			text := escape(strings.Join(cell[:min(longest, len(cell))], ", "))
			if len(cell) > longest {
				rest := escape(strings.Join(cell[longest:], ", "))
				text += fmt.Sprintf(" <details><summary>%d more</summary>%s</details>", len(cell)-longest, rest)
			}
			b.WriteString("| " + text + " ")
		}
		b.WriteString("|\n")
	}
}

// escape keeps text from being read as Markdown.
func escape(text string) string {
	return strings.NewReplacer("*", `\*`, "|", `\|`, "_", `\_`, "<", "&lt;", ">", "&gt;").Replace(text)
}
