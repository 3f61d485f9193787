// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/watch/drops"
)

// DropsFlags are the flags of `netpold drops`.
type DropsFlags struct {
	Namespace, Output string
	Follow, Audit     bool
	Top               int

	NodeWidth int // of the node column; not a flag
}

// Add adds the flags to a command.
func (f *DropsFlags) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.Follow, "follow", "f", false, "keep printing new lines until interrupted")
	cmd.Flags().BoolVar(&f.Audit, "audit", false, "show what audited policies would block")
	cmd.Flags().StringVarP(&f.Namespace, "namespace", "n", "", "show only drops from or to pods of this namespace")
	AddOutput(cmd, &f.Output, "output format: text, or json (one object per line)")
	cmd.Flags().IntVar(&f.Top, "top", 0, "show only the `N` pairs that were blocked most")
	cmd.Flags().Lookup("top").NoOptDefVal = "20"
	cmd.MarkFlagsMutuallyExclusive("follow", "top")
}

// Args takes the number after --top, which pflag leaves as an argument because the flag's value is optional.
func (f *DropsFlags) Args(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && cmd.Flags().Changed("top") {
		return cmd.Flags().Set("top", args[0])
	}
	return cobra.NoArgs(cmd, args)
}

// Check returns an error for an invalid flag value.
func (f *DropsFlags) Check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("top") && f.Top < 1 {
		return fmt.Errorf("--top=%d: want 1 or more", f.Top)
	}
	return nil
}

// Path returns one of the daemon's paths with the query that the flags ask for.
func (f *DropsFlags) Path(path string) string {
	query := url.Values{"namespace": {f.Namespace}, "follow": {strconv.FormatBool(f.Follow)},
		"audit": {strconv.FormatBool(f.Audit)}}
	return path + "?" + query.Encode()
}

// PrintLine prints a line of a node; "" is this one.
func (f *DropsFlags) PrintLine(w io.Writer, node string, line drops.Line) error {
	if f.Output == "json" {
		return json.NewEncoder(w).Encode(struct {
			Node string `json:"node,omitempty"`
			drops.Line
		}{node, line})
	}
	column := ""
	if node != "" {
		column = fmt.Sprintf("%-*s ", f.NodeWidth, node)
	}
	if line.Record == nil {
		_, err := fmt.Fprintf(w, "%s(%d lines missed: they arrived faster than they could be printed)\n", column,
			line.Missed)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s%s\n", line.Time.Local().Format(time.DateTime), column, line.Text)
	return err
}

// Top is who was blocked most, on some nodes or on this one.
type Top struct {
	Since   time.Time `json:"since"`
	Packets uint64    `json:"packets"` // of all pairs
	Pairs   []Pair    `json:"pairs"`
}

// Pair is a pair on a node; "" is this one.
type Pair struct {
	Node string `json:"node,omitempty"`
	drops.Pair
}

// Add adds a node's pairs.
func (t *Top) Add(node string, of drops.Top) {
	t.Packets += of.Packets
	if t.Since.IsZero() || of.Since.Before(t.Since) {
		t.Since = of.Since
	}
	for _, p := range of.Pairs {
		t.Pairs = append(t.Pairs, Pair{node, p})
	}
}

// PrintTop prints the pairs that were blocked most, and returns [ErrNo] if there are none.
func (f *DropsFlags) PrintTop(w io.Writer, top Top) error {
	slices.SortStableFunc(top.Pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Node, b.Node))
	})
	top.Pairs = append([]Pair{}, top.Pairs[:min(f.Top, len(top.Pairs))]...)
	if err := f.printPairs(w, top); err != nil {
		return fmt.Errorf("print the pairs: %w", err)
	}
	return Yes(len(top.Pairs) > 0)
}

func (f *DropsFlags) printPairs(w io.Writer, top Top) error {
	if f.Output == "json" {
		return json.NewEncoder(w).Encode(top)
	}
	if len(top.Pairs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header, node := "", func(Pair) string { return "" }
	if top.Pairs[0].Node != "" {
		header, node = "NODE\t", func(p Pair) string { return p.Node + "\t" }
	}
	fmt.Fprintf(t, "%sPACKETS\tLAST\tDIRECTION\tSOURCE\tDESTINATION\tPROTOCOL\n", header)
	for _, p := range top.Pairs {
		count := strconv.FormatUint(p.Count, 10)
		if p.Excess > 0 {
			count = fmt.Sprintf("%d-%d", p.Count-p.Excess, p.Count)
		}
		fmt.Fprintf(t, "%s%s\t%s\t%s\t%s\t%s\t%s\n", node(p), count, p.Last.Local().Format(time.DateTime), p.Direction,
			peerText(p.Src), peerText(p.Dst), p.Protocol)
	}
	return t.Flush()
}

// peerText is one end of a flow in the table: the pod, or else the address, and the port.
func peerText(p drops.Peer) string {
	name := p.Pod
	if name == "" {
		name = p.Address.String()
		if p.Port != 0 {
			return net.JoinHostPort(name, strconv.Itoa(int(p.Port)))
		}
		return name
	}
	if p.Port != 0 {
		name += ":" + strconv.Itoa(int(p.Port))
	}
	return name
}
