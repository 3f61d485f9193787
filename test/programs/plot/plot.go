// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/netpold/netpold/test/harness/figures"
)

const (
	width  = 7 * vg.Inch
	height = 3.6 * vg.Inch
)

// colors are the first of the Okabe-Ito palette, which most colour-blind readers can tell apart.
func colors() []color.Color {
	return []color.Color{
		color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255},
		color.RGBA{204, 121, 167, 255}, color.RGBA{86, 180, 233, 255}, color.RGBA{230, 159, 0, 255},
	}
}

// drawMeasure draws the medians of the given series as lines, and the least and greatest as bars, into an SVG file.
func drawMeasure(m *figures.Measure, list []figures.Series, file string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = m.Title + ": " + m.Y
	p.X.Label.Text = m.X
	p.Y.Label.Text = m.Unit
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(3)
	p.Add(plotter.NewGrid())
	a := axesOf(list)
	styles := make(map[string]int)
	for _, s := range list {
		name := strings.TrimSuffix(strings.TrimSuffix(s.Name, p99), p50)
		if _, ok := styles[name]; !ok {
			styles[name] = len(styles)
		}
		style := style{number: styles[name], dashed: strings.HasSuffix(s.Name, p99)}
		if err := a.add(p, s, style); err != nil {
			return fmt.Errorf("plot %s: %w", m.ID, err)
		}
	}
	a.scale(p)
	w, err := p.WriterTo(width, height, "svg")
	if err != nil {
		return fmt.Errorf("plot %s: %w", m.ID, err)
	}
	var svg bytes.Buffer
	if _, err := w.WriteTo(&svg); err != nil {
		return fmt.Errorf("plot %s: %w", m.ID, err)
	}
	// The text was measured in this font; name others like it in case it is not installed.
	text := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,sans-serif"))
	return os.WriteFile(file, text, 0o644)
}

// Two series whose names differ only in these look the same, except that one is dashed.
const (
	p50 = ", p50"
	p99 = ", p99"
)

// style is how a series looks.
type style struct {
	number int
	dashed bool
}

// axes maps values to positions.
type axes struct {
	xs       []float64 // all there are, ascending
	labels   map[float64]string
	logX     bool
	logY     bool
	low, top float64 // of the positive values
	series   int     // how many
}

// axesOf chooses scales that keep all points apart.
func axesOf(list []figures.Series) axes {
	a := axes{labels: make(map[float64]string), low: math.Inf(1), series: len(list)}
	for _, s := range list {
		for _, p := range s.Points {
			a.xs = append(a.xs, p.X)
			if p.Label != "" {
				a.labels[p.X] = p.Label
			}
			if p.Median > 0 {
				a.low = min(a.low, p.Median)
			}
			a.top = max(a.top, p.Max)
		}
	}
	slices.Sort(a.xs)
	a.xs = slices.Compact(a.xs)
	a.logX = len(a.labels) == 0 && a.xs[len(a.xs)-1] > 20*max(1, a.xs[0])
	a.logY = a.top > 30*a.low
	return a
}

// x is the position of a value. On a logarithmic scale 0 has none, so it goes one step before the next value.
func (a axes) x(v float64) float64 {
	if a.logX && v == 0 {
		return a.zero()
	}
	return v
}

func (a axes) zero() float64 { return a.xs[1] / 10 }

func (a axes) y(v float64) float64 {
	if a.logY {
		return max(v, a.low/2)
	}
	return v
}

// add draws one series.
func (a axes) add(p *plot.Plot, s figures.Series, style style) error {
	var points struct {
		plotter.XYs
		plotter.YErrors
	}
	for _, q := range s.Points {
		y := a.y(q.Median)
		points.XYs = append(points.XYs, plotter.XY{X: a.x(q.X), Y: y})
		points.YErrors = append(points.YErrors, struct{ Low, High float64 }{a.y(q.Min) - y, a.y(q.Max) - y})
	}
	line, dots, err := plotter.NewLinePoints(points.XYs)
	if err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(points)
	if err != nil {
		return err
	}
	c := colors()[style.number%len(colors())]
	line.Color, line.Width, bars.Color, dots.Color = c, vg.Points(1.5), c, c
	dots.Shape = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{},
		draw.PyramidGlyph{}}[style.number%4]
	if style.dashed {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	}
	p.Add(line, bars, dots)
	p.Legend.Add(s.Name, line, dots)
	return nil
}

// scale sets the scales and the marks of the axes.
func (a axes) scale(p *plot.Plot) {
	var marks []plot.Tick
	for _, x := range a.xs {
		label := a.labels[x]
		if label == "" {
			label = number(x)
		}
		marks = append(marks, plot.Tick{Value: a.x(x), Label: label})
	}
	p.X.Tick.Marker = plot.ConstantTicks(marks)
	if a.logX { // and room for the last mark
		p.X.Scale = plot.LogScale{}
		p.X.Max *= math.Pow(p.X.Max/p.X.Min, 0.03)
	} else {
		p.X.Max += 0.03 * (p.X.Max - p.X.Min)
	}
	legend := 0.12 * float64(a.series) // of the height
	if a.logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
		p.Y.Max *= math.Pow(p.Y.Max/p.Y.Min, legend) // room for the legend
		return
	}
	p.Y.Min = min(p.Y.Min, 0)
	p.Y.Max += legend * (p.Y.Max - p.Y.Min)
}

// logTicks marks as gonum does, but formats numbers as this document does.
func logTicks(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = number(ticks[i].Value)
		}
	}
	return ticks
}
