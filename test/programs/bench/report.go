// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// Report is what one run measured. test/programs/plot makes the document of it, from its JSON alone.
type Report struct {
	Machine  Machine   `json:"machine"`
	Quick    bool      `json:"quick"` // fewer points, fewer rounds: not to be published
	Measures []Measure `json:"measures"`
}

// Machine is where the run was.
type Machine struct {
	Date        string `json:"date"`   // of the start, UTC
	Commit      string `json:"commit"` // "+" at its end: with local changes
	Kernel      string `json:"kernel"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryMiB   int    `json:"memoryMiB"`
	Mitigations string `json:"mitigations"` // what the kernel does about Spectre v2: it makes indirect calls dear
	Load        string `json:"load"`        // average at the start: what else ran
	Go          string `json:"go"`
}

// Measure is one quantity, against one variable.
type Measure struct {
	ID      string   `json:"id"`
	Title   string   `json:"title"`
	Note    string   `json:"note,omitempty"` // what a reader has to know to take the figures for what they are
	X       string   `json:"x"`              // the variable
	Y       string   `json:"y"`              // the quantity
	Unit    string   `json:"unit"`
	Command string   `json:"command"`
	Series  []Series `json:"series"`
}

// Series is a measure of one thing.
type Series struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is a series at one value of the variable.
type Point struct {
	X      float64   `json:"x"`
	Label  string    `json:"label,omitempty"` // in place of X, which is then only the order
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"` // in the order in which they were measured
}

// point sums rounds up.
func point(x float64, rounds []float64) Point {
	return Point{X: x, Median: median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds), Rounds: rounds}
}

// quantile is the nearest-rank quantile of some values, of which there is at least one.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// add adds a point to the series of that name, which it makes if there is none.
func (m *Measure) add(series string, p Point) {
	for i := range m.Series {
		if m.Series[i].Name == series {
			m.Series[i].Points = append(m.Series[i].Points, p)
			return
		}
	}
	m.Series = append(m.Series, Series{Name: series, Points: []Point{p}})
}

// write writes the report as JSON to a file, or to the standard output if the name is "-".
func (r *Report) write(name string) error {
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
