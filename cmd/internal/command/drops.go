// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/watch/drops"
)

// DropsFlags are the flags of `netpold drops`.
type DropsFlags struct {
	Namespace, Output string
	Follow            bool
	Top               int
}

// Add adds the flags to a command.
func (f *DropsFlags) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.Follow, "follow", "f", false, "keep printing new lines until interrupted")
	cmd.Flags().StringVarP(&f.Namespace, "namespace", "n", "", "show only drops from or to pods of this namespace")
	cmd.Flags().StringVarP(&f.Output, "output", "o", "text", "output format: text, or json (one object per line)")
	cmd.Flags().IntVar(&f.Top, "top", 0, "show only the `N` pairs that were blocked most")
	cmd.Flags().Lookup("top").NoOptDefVal = "20"
	cmd.MarkFlagsMutuallyExclusive("follow", "top")
}

// Args takes the number after --top: a flag whose value may be absent takes none from the next argument.
func (f *DropsFlags) Args(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && cmd.Flags().Changed("top") {
		return cmd.Flags().Set("top", args[0])
	}
	return cobra.NoArgs(cmd, args)
}

// PrintLine prints a line.
func (f *DropsFlags) PrintLine(w io.Writer, line drops.Line) error {
	if f.Output == "json" {
		return json.NewEncoder(w).Encode(line)
	}
	if line.Record == nil {
		_, err := fmt.Fprintf(w, "(%d lines missed: they came faster than they were printed)\n", line.Missed)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s\n", line.Time.Local().Format(time.DateTime), line.Text)
	return err
}

// PrintPairs prints the table of the top pairs.
func (f *DropsFlags) PrintPairs(w io.Writer, top drops.Top) error {
	if f.Output == "json" {
		return json.NewEncoder(w).Encode(top)
	}
	if len(top.Pairs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "PACKETS\tLAST\tDIRECTION\tSOURCE\tDESTINATION\tPROTOCOL\n")
	for _, p := range top.Pairs {
		count := strconv.FormatUint(p.Count, 10)
		if p.Excess > 0 {
			count = fmt.Sprintf("%d-%d", p.Count-p.Excess, p.Count)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", count, p.Last.Local().Format(time.DateTime), p.Direction,
			peerText(p.Src), peerText(p.Dst), p.Protocol)
	}
	return t.Flush()
}

// peerText is an end in the table: the pod, or else the address, and the port.
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
