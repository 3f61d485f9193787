// SPDX-License-Identifier: Apache-2.0

// Command plot makes benchmarks.md, and the plots in benchmarks/, from the JSON that test/programs/bench wrote.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/netpold/netpold/test/harness/figures"
)

func main() {
	in := flag.String("in", "docs/benchmarks.json", "what test/programs/bench wrote")
	out := flag.String("out", "docs", "folder for benchmarks.md and benchmarks/")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

// plots is the folder of the plots, beside the document.
const plots = "benchmarks"

func run(in, out string) error {
	r, err := figures.Read(in)
	if err != nil {
		return err
	}
	// The folder belongs to this program, so plots of measures that no longer exist go.
	if err := os.RemoveAll(filepath.Join(out, plots)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(out, plots), 0o755); err != nil {
		return err
	}
	d := document{report: r, folder: out}
	if err := d.write(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "benchmarks.md"), []byte(d.text.String()), 0o644)
}

// fileOf is the name of a measure's plot.
func fileOf(id string) string { return strings.ReplaceAll(id, "/", "-") + ".svg" }
