// SPDX-License-Identifier: Apache-2.0

// Command bench measures netpold on this machine, in its own network namespaces, and writes the results as JSON, of
// which test/programs/plot makes docs/benchmarks.md. `make bench` runs both.
//
// It measures what it compares in turn within one run, in several rounds, and keeps the figure of every round to show
// the spread.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/netpold/netpold/test/harness/figures"
)

// bench is a run.
type bench struct {
	quick   bool
	program string // of netpold
	start   time.Time
	report  figures.Report
}

// section is a part of a run that -only can select.
type section struct {
	name string
	run  func(*bench, context.Context) error
}

func sections() []section {
	return []section{
		{"packet", (*bench).packetPath},
		{"forms", (*bench).forms},
		{"established", (*bench).established},
		{"throughput", (*bench).throughput},
		{"control", (*bench).controlPath},
		{"memory", (*bench).memory},
	}
}

// inside, in the environment, says that the process runs in its own namespaces.
const inside = "NETPOLD_BENCH_INSIDE"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func run(ctx context.Context) error {
	var only, out, table, group string
	b := &bench{start: time.Now()}
	flag.BoolVar(&b.quick, "quick", false, "fewer points and rounds: to try it out, not for publication")
	flag.StringVar(&only, "only", "", "sections to run, separated by commas (default all)")
	flag.StringVar(&b.program, "netpold", "bin/netpold", "the netpold program")
	flag.StringVar(&table, "table-memory", "",
		"used internally: print how much kernel memory a table takes")
	flag.StringVar(&group, "cgroup", "", "used internally: the memory cgroup to measure in")
	flag.StringVar(&out, "out", "-", "file to write the JSON to")
	flag.Parse()
	if os.Getenv(inside) == "" {
		return again(ctx)
	}
	if table != "" {
		return printTableMemory(ctx, table, group)
	}
	if err := command("link set dev lo up\n", "ip", "-batch", "-"); err != nil {
		return err
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	b.report.Quick, b.report.Machine = b.quick, thisMachine()
	for _, s := range chosen {
		before := len(b.report.Measures)
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for i := range b.report.Measures[before:] {
			b.report.Measures[before+i].Command = "go run ./test/programs/bench -only " + s.name
		}
	}
	b.progress("done")
	return b.report.Write(out)
}

// choose returns the sections of those names, or all.
func choose(only string) ([]section, error) {
	all := sections()
	if only == "" {
		return all, nil
	}
	var chosen []section
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(s section) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only=%s: there is no section %q", only, name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// again runs this program in a new network namespace and, for ordinary users, user namespace.
func again(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("the run ended with %w", err)
	}
	return err
}

// add adds a measure to the report.
func (b *bench) add(m figures.Measure) { b.report.Measures = append(b.report.Measures, m) }

// progress reports progress on the standard error.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, args...))
}

// summary is the last point of each series of a measure, as text.
func summary(m *figures.Measure, baseline float64) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%.4g %s", baseline, m.Unit)
	for _, series := range m.Series {
		p := series.Points[len(series.Points)-1]
		fmt.Fprintf(&s, "; %s %.4g (%.4g..%.4g)", series.Name, p.Median, p.Min, p.Max)
	}
	return s.String()
}

// thousands formats a number with commas between thousands.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
