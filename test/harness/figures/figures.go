// SPDX-License-Identifier: Apache-2.0

// Package figures is what test/programs/bench measures and test/programs/plot makes docs/benchmarks.md of, as JSON.
package figures

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// Report is what one run measured.
type Report struct {
	Machine  Machine   `json:"machine"`
	Quick    bool      `json:"quick"` // fewer points and rounds: not for publication
	Measures []Measure `json:"measures"`
}

// Machine is where the run was.
type Machine struct {
	Date        string `json:"date"`   // of the start, UTC
	Commit      string `json:"commit"` // ends in "+" if there were local changes
	Kernel      string `json:"kernel"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryMiB   int    `json:"memoryMiB"`
	Mitigations string `json:"mitigations"` // of Spectre v2, which make indirect calls expensive
	Load        string `json:"load"`        // load average at the start: how busy the machine was
	Go          string `json:"go"`
}

// Measure is one quantity, against one variable.
type Measure struct {
	ID      string   `json:"id"`
	Title   string   `json:"title"`
	Note    string   `json:"note,omitempty"` // what a reader has to know to interpret the figures
	X       string   `json:"x"`              // the variable
	Y       string   `json:"y"`              // the quantity
	Unit    string   `json:"unit"`
	Command string   `json:"command"`
	Series  []Series `json:"series"`
}

// Series is one line of a measure.
type Series struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is a series at one value of the variable.
type Point struct {
	X      float64   `json:"x"`
	Label  string    `json:"label,omitempty"` // shown instead of X, which then only gives the order
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"` // in the order in which they were measured
}

// NewPoint returns the point at x of at least one round.
func NewPoint(x float64, rounds []float64) Point {
	return Point{X: x, Median: Median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds), Rounds: rounds}
}

// Quantile returns the nearest-rank quantile of at least one value.
func Quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Median returns the median of at least one value.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Add adds a point to the series of that name, which it makes if there is none.
func (m *Measure) Add(series string, p Point) {
	s := m.Find(series)
	if s == nil {
		m.Series = append(m.Series, Series{Name: series})
		s = &m.Series[len(m.Series)-1]
	}
	s.Points = append(s.Points, p)
}

// Measure returns the measure of that id, or nil.
func (r *Report) Measure(id string) *Measure {
	return find(r.Measures, func(m *Measure) bool { return m.ID == id })
}

// Find returns the series of that name, or nil.
func (m *Measure) Find(name string) *Series {
	return find(m.Series, func(s *Series) bool { return s.Name == name })
}

// At returns the point at x, or nil.
func (s *Series) At(x float64) *Point {
	return find(s.Points, func(p *Point) bool { return p.X == x })
}

// Point returns the point at x of a series of a measure, or nil.
func (r *Report) Point(id, series string, x float64) *Point {
	if m := r.Measure(id); m != nil {
		if s := m.Find(series); s != nil {
			return s.At(x)
		}
	}
	return nil
}

// find returns the first of a list that is as wanted, or nil.
func find[T any](list []T, wanted func(*T) bool) *T {
	for i := range list {
		if wanted(&list[i]) {
			return &list[i]
		}
	}
	return nil
}

// Read reads a report from a file.
func Read(name string) (*Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &r, nil
}

// Write writes the report to a file, or to the standard output if the name is "-".
func (r *Report) Write(name string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	text = append(text, '\n')
	if name == "-" {
		_, err = os.Stdout.Write(text)
	} else {
		err = os.WriteFile(name, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
