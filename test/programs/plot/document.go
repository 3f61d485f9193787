// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/netpold/netpold/test/harness/figures"
)

// document is benchmarks.md while it is being written.
type document struct {
	report *figures.Report
	folder string
	text   strings.Builder
}

func (d *document) printf(format string, args ...any) { fmt.Fprintf(&d.text, format, args...) }

// write writes the document and its plots.
func (d *document) write() error {
	m := d.report.Machine
	mitigation, _, _ := strings.Cut(strings.ToLower(m.Mitigations), ";")
	d.printf("# Benchmarks\n\n%s\n\n", wrapped(opening))
	if d.report.Quick {
		d.printf("**From a quick run, with fewer points and rounds than `make bench` takes.**\n\n")
	}
	d.printf("| | |\n|---|---|\n| date, commit | %s UTC, %s |\n| kernel | Linux %s, Spectre v2: %s |\n", m.Date,
		m.Commit, m.Kernel,
		mitigation)
	d.printf("| machine | %s, %d cores, %d GiB, load average at the start %s |\n| compiler | %s |\n\n", m.CPU, m.Cores,
		(m.MemoryMiB+512)/1024,
		m.Load, m.Go)
	d.goals()
	for _, c := range chapters() {
		if err := d.chapter(c); err != nil {
			return err
		}
	}
	return nil
}

// goals writes the goals, and whether they were reached.
func (d *document) goals() {
	d.printf("## Goals\n\n| figure | goal | measured | reached |\n|---|---|---|---|\n")
	for _, g := range goals() {
		text, reached := "not measured", "?"
		if v, ok := g.measured(d.report); ok {
			text, reached = g.text(v), "yes"
			if v.Median > g.limit && !g.least || g.least && v.Median < g.limit {
				reached = "**no**"
				if g.why != "" {
					reached += ": " + g.why
				}
			}
		}
		d.printf("| %s | %s | %s | %s |\n", g.figure, g.goal, text, reached)
	}
	d.printf("\n")
}

// chapter writes a chapter, if anything in it was measured.
func (d *document) chapter(c chapter) error {
	if !slices.ContainsFunc(c.figures, func(f figure) bool { return d.report.Measure(f.id) != nil }) {
		return nil
	}
	d.printf("## %s\n\n%s\n\n", c.title, wrapped(c.text))
	for _, f := range c.figures {
		m := d.report.Measure(f.id)
		if m == nil {
			continue
		}
		d.printf("### %s\n\n", m.Title)
		if m.Note != "" {
			d.printf("%s\n\n", wrapped(m.Note))
		}
		shown := slices.DeleteFunc(slices.Clone(m.Series), func(s figures.Series) bool {
			return slices.Contains(f.hidden, s.Name)
		})
		if !f.noPlot && len(shown) > 0 && len(shown[0].Points) > 1 {
			if err := drawMeasure(m, shown, filepath.Join(d.folder, plots, fileOf(m.ID))); err != nil {
				return err
			}
			d.printf("![%s](%s/%s)\n\n", m.Title, plots, fileOf(m.ID))
		}
		d.table(m, d.report.Measure(f.beside))
	}
	return nil
}

// table writes all points of a measure. The first columns are those of beside, unless that is nil.
func (d *document) table(m, beside *figures.Measure) {
	list := m.Series
	if beside != nil {
		list = slices.Concat(beside.Series, list)
	}
	unit := ", " + m.Unit
	if m.Unit == "1" {
		unit = ""
	}
	rounds := ""
	if n := len(list[0].Points[0].Rounds); n > 1 {
		rounds = fmt.Sprintf(": median (least – greatest of %d rounds)", n)
	}
	d.printf("%s\n\n", wrapped(fmt.Sprintf("%s%s%s. `%s`", capital(m.Y), unit, rounds, m.Command)))
	d.printf("| %s |", m.X)
	for _, s := range list {
		d.printf(" %s |", s.Name)
	}
	d.printf("\n|%s\n", strings.Repeat("---:|", len(list)+1))
	for _, x := range axesOf(list).xs {
		label := ""
		var row strings.Builder
		for _, s := range list {
			p := s.At(x)
			if p == nil {
				row.WriteString(" |")
				continue
			}
			label = p.Label
			fmt.Fprintf(&row, " %s |", spread(p))
		}
		if label == "" && m.X != "" {
			label = number(x)
		}
		d.printf("| %s |%s\n", label, row.String())
	}
	d.printf("\n")
}

// spread writes a point as "median (min – max)".
func spread(p *figures.Point) string {
	if len(p.Rounds) < 2 {
		return number(p.Median)
	}
	return fmt.Sprintf("%s (%s – %s)", number(p.Median), number(p.Min), number(p.Max))
}

// number formats a value with at least three significant digits, and commas between thousands.
func number(v float64) string {
	digits := 0
	for limit := 100.0; digits < 3 && v != float64(int64(v)) && abs(v) < limit; limit /= 10 {
		digits++
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	sign, rest := "", text
	if strings.HasPrefix(rest, "-") {
		sign, rest = "-", rest[1:]
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return sign + whole
}

// wrapped wraps paragraphs at 120 columns.
func wrapped(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		var lines strings.Builder
		column := 0
		for word := range strings.FieldsSeq(p) {
			n := utf8.RuneCountInString(word)
			switch {
			case column == 0:
			case column+1+n > 120:
				lines.WriteString("\n")
				column = 0
			default:
				lines.WriteString(" ")
				column++
			}
			lines.WriteString(word)
			column += n
		}
		paragraphs[i] = lines.String()
	}
	return strings.Join(paragraphs, "\n\n")
}

// capital makes the first letter a capital.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func abs(v float64) float64 { return max(v, -v) }
