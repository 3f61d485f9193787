// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/watch/drops"
)

// dropsFlags are the flags of `netpold drops`.
type dropsFlags struct{ command.DropsFlags }

func dropsCommand() *cobra.Command {
	var flags dropsFlags
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Show which connections were blocked on this node, and why",
		Long: `Show the latest blocked connections that the daemon on this node has logged, up to 1,000; with --follow,
also new ones. With --top, show who was blocked most since the daemon started, counted from the packets that the
kernel logs: at most 100 a second for each set of policies. With --audit, the same of connections that audited
policies would block.

Exit status: 0 something was blocked, 1 nothing was, 2 error.`,
		Example: `  netpold drops --follow --namespace shop
  netpold drops --top 5
  netpold drops --audit -n shop
  netpold drops -o json | jq -r '.dst.pod' | sort | uniq -c
  kubectl -n kube-system exec ds/netpold -- netpold drops`,
		Args: flags.Args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := command.CheckOutput(flags.Output); err != nil {
				return err
			}
			if flags.Top > 0 {
				return flags.printTop(cmd.Context(), cmd.OutOrStdout())
			}
			return flags.printLines(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags.Add(cmd)
	return cmd
}

// path returns the path to ask for.
func (f dropsFlags) path(path string) string {
	query := url.Values{}
	if f.Namespace != "" {
		query.Set("namespace", f.Namespace)
	}
	if f.Follow {
		query.Set("follow", "true")
	}
	if f.Audit {
		query.Set("audit", "true")
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
		case ctx.Err() != nil, errors.Is(err, io.EOF) && !f.Follow:
			if printed == 0 {
				return command.ErrNo
			}
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the daemon stopped")
		case err != nil:
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if err := f.PrintLine(w, "", line); err != nil {
			return err
		}
		if line.Record != nil {
			printed++
		}
	}
}

// printTop prints the table of the top pairs.
func (f dropsFlags) printTop(ctx context.Context, w io.Writer) error {
	var top drops.Top
	if err := ask(ctx, "", f.path("/drops/top"), &top); err != nil {
		return err
	}
	var all command.Top
	all.Add("", top)
	return f.PrintTop(w, all)
}
