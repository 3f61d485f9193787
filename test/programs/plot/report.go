// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// report is what test/programs/bench wrote; see there what the fields are. A field that is not known here is an error,
// so that the two cannot drift apart.
type report struct {
	Machine  machine   `json:"machine"`
	Quick    bool      `json:"quick"`
	Measures []measure `json:"measures"`
}

type machine struct {
	Date        string `json:"date"`
	Commit      string `json:"commit"`
	Kernel      string `json:"kernel"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryMiB   int    `json:"memoryMiB"`
	Mitigations string `json:"mitigations"`
	Load        string `json:"load"`
	Go          string `json:"go"`
}

type measure struct {
	ID      string   `json:"id"`
	Title   string   `json:"title"`
	Note    string   `json:"note"`
	X       string   `json:"x"`
	Y       string   `json:"y"`
	Unit    string   `json:"unit"`
	Command string   `json:"command"`
	Series  []series `json:"series"`
}

type series struct {
	Name   string  `json:"name"`
	Points []point `json:"points"`
}

type point struct {
	X      float64   `json:"x"`
	Label  string    `json:"label"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// readReport reads a report.
func readReport(name string) (*report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var r report
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &r, nil
}

// measure returns the measure of that id, or nil.
func (r *report) measure(id string) *measure {
	for i := range r.Measures {
		if r.Measures[i].ID == id {
			return &r.Measures[i]
		}
	}
	return nil
}

// point returns a point of a measure, or nil: that of the series at x.
func (r *report) point(id, name string, x float64) *point {
	m := r.measure(id)
	if m == nil {
		return nil
	}
	s := m.find(name)
	if s == nil {
		return nil
	}
	return s.at(x)
}

// find returns the series of that name, or nil.
func (m *measure) find(name string) *series {
	for i := range m.Series {
		if m.Series[i].Name == name {
			return &m.Series[i]
		}
	}
	return nil
}

// at returns the point at x, or nil.
func (s *series) at(x float64) *point {
	for i := range s.Points {
		if s.Points[i].X == x {
			return &s.Points[i]
		}
	}
	return nil
}

// summarise computes what sums the rounds up, as test/programs/bench does.
func (p *point) summarise() {
	sorted := slices.SortedFunc(slices.Values(p.Rounds), cmp.Compare[float64])
	p.Median, p.Min, p.Max = sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
}
