// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/watch/drops"
)

// dropsFlags are the flags of `netpold drops`.
type dropsFlags struct {
	namespace, output string
	follow            bool
	top               int
}

func dropsCommand() *cobra.Command {
	var flags dropsFlags
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Show which connections were blocked on this node, and why",
		Long: `Show the newest lines about blocked connections that the daemon on this node has written,
up to 1,000 of them; with --follow, also those to come. With --top, show who was blocked most since the
daemon's start: of the packets that the kernel logs, which it does at most 100 times a second for each set
of policies.

Exit status: 0 something was blocked, 1 nothing was, 2 error.`,
		Example: `  netpold drops --follow --namespace shop
  netpold drops --top 5
  netpold drops -o json | jq -r '.dst.pod' | sort | uniq -c
  kubectl -n kube-system exec ds/netpold -- netpold drops`,
		Args: func(cmd *cobra.Command, args []string) error {
			// A flag whose value may be absent takes none from the next argument.
			if len(args) == 1 && cmd.Flags().Changed("top") {
				return cmd.Flags().Set("top", args[0])
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.output != "text" && flags.output != "json" {
				return fmt.Errorf("--output=%s: want text or json", flags.output)
			}
			if flags.top > 0 {
				return flags.printTop(cmd.Context(), cmd.OutOrStdout())
			}
			return flags.printLines(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVarP(&flags.follow, "follow", "f", false, "keep printing new lines until interrupted")
	cmd.Flags().StringVarP(&flags.namespace, "namespace", "n", "", "show only drops from or to pods of this namespace")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "text", "output format: text, or json (one object per line)")
	cmd.Flags().IntVar(&flags.top, "top", 0, "show this many of the pairs that were blocked most")
	cmd.Flags().Lookup("top").NoOptDefVal = "20"
	cmd.MarkFlagsMutuallyExclusive("follow", "top")
	return cmd
}

// path returns the path to ask for.
func (f dropsFlags) path(path string) string {
	query := url.Values{}
	if f.namespace != "" {
		query.Set("namespace", f.namespace)
	}
	if f.follow {
		query.Set("follow", "true")
	}
	return path + "?" + query.Encode()
}

// printLines prints lines as they come. To be interrupted is how following ends.
func (f dropsFlags) printLines(ctx context.Context, w io.Writer) error {
	body, err := open(ctx, "", f.path("/drops"))
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read from
	printed := 0
	for lines := json.NewDecoder(body); ; {
		var line drops.Line
		switch err := lines.Decode(&line); {
		case ctx.Err() != nil, errors.Is(err, io.EOF) && !f.follow:
			if printed == 0 {
				return errNo
			}
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the daemon stopped")
		case err != nil:
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if err := f.printLine(w, line); err != nil {
			return err
		}
		if line.Record != nil {
			printed++
		}
	}
}

func (f dropsFlags) printLine(w io.Writer, line drops.Line) error {
	if f.output == "json" {
		return json.NewEncoder(w).Encode(line)
	}
	if line.Record == nil {
		_, err := fmt.Fprintf(w, "(%d lines missed: they came faster than they were printed)\n", line.Missed)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s\n", line.Time.Local().Format(time.DateTime), line.Text)
	return err
}

// printTop prints the table of the top pairs.
func (f dropsFlags) printTop(ctx context.Context, w io.Writer) error {
	var top drops.Top
	if err := ask(ctx, "", f.path("/drops/top"), &top); err != nil {
		return err
	}
	top.Pairs = top.Pairs[:min(f.top, len(top.Pairs))]
	if err := f.printPairs(w, top); err != nil {
		return err
	}
	if len(top.Pairs) == 0 {
		return errNo
	}
	return nil
}

func (f dropsFlags) printPairs(w io.Writer, top drops.Top) error {
	if f.output == "json" {
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
