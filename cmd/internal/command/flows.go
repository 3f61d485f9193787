// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/netpold/netpold/translate/flows"
)

// FlowsFlags are the flags of `netpold flows`.
type FlowsFlags struct {
	Namespace, Output string
	Follow            bool
	Since             time.Duration

	NodeWidth int // of the node column; not a flag
}

// Add adds the flags to a command.
func (f *FlowsFlags) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.Follow, "follow", "f", false, "keep printing flows as they are seen, until interrupted")
	cmd.Flags().StringVarP(&f.Namespace, "namespace", "n", "", "show only flows from or to pods of this namespace")
	OneOf(&f.Output, "txt", "json").Add(cmd, pflag.Flag{Name: "output", Shorthand: "o", DefValue: "txt",
		Usage: "output format: txt, by workload, or json, by address (one object per line)"})
	cmd.Flags().DurationVar(&f.Since, "since", 0, "show only flows seen within this time, such as 10m")
}

// Check returns an error for an invalid flag value.
func (f *FlowsFlags) Check() error {
	if f.Since < 0 {
		return fmt.Errorf("--since=%s: want a positive duration, such as 10m", f.Since)
	}
	return nil
}

// Path returns the daemon's path with the query that the flags ask for.
func (f *FlowsFlags) Path() string {
	query := url.Values{"namespace": {f.Namespace}, "follow": {strconv.FormatBool(f.Follow)}}
	if f.Since > 0 {
		query.Set("since", f.Since.String())
	}
	return "/flows?" + query.Encode()
}

// PrintFlow prints a flow on a line of its own.
func (f *FlowsFlags) PrintFlow(w io.Writer, flow flows.Flow) error {
	if f.Output == "json" {
		return flows.Write(w, flow)
	}
	node := ""
	if f.NodeWidth > 0 {
		node = fmt.Sprintf("%-*s  ", f.NodeWidth, flow.Node)
	}
	_, err := fmt.Fprintf(w, "%s  %s%-7s  %s -> %s  %s  %d\n", flow.Last.Local().Format(time.DateTime), node,
		flow.Verdict, flow.From, flow.To, flow.Service(), flow.Count)
	return err
}

// Print prints flows; as txt, those between the same workloads on one line.
func (f *FlowsFlags) Print(w io.Writer, all []flows.Flow) error {
	if f.Output == "json" {
		return flows.Write(w, all...)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "FROM\tTO\tSERVICE\tVERDICT\tCOUNT\tFIRST\tLAST\n")
	for _, sum := range byWorkload(all) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", sum.From, sum.To, sum.Service(), sum.Verdict, sum.Count,
			sum.First.Local().Format(time.DateTime), sum.Last.Local().Format(time.DateTime))
	}
	return t.Flush()
}

// byWorkload merges flows that would print alike, and sorts them.
func byWorkload(all []flows.Flow) []flows.Flow {
	type look struct {
		from, to, service string
		verdict           flows.Verdict
	}
	at := make(map[look]int)
	var sums []flows.Flow
	for _, flow := range all {
		k := look{flow.From.String(), flow.To.String(), flow.Service(), flow.Verdict}
		i, seen := at[k]
		if !seen {
			at[k] = len(sums)
			sums = append(sums, flow)
			continue
		}
		sums[i].Count += flow.Count
		sums[i].Span(flow)
	}
	flows.Sort(sums)
	return sums
}
