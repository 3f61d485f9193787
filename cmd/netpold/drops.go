// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/watch/drops"
)

func dropsCommand() *cobra.Command {
	var flags command.DropsFlags
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Show which connections were blocked on this node, and why",
		Long: `Show the latest blocked connections that the daemon on this node has logged, up to 1,000; with --follow,
also new ones. With --top, show who was blocked most since the daemon started, counted from the packets that the
kernel logs: at most 100 a second for each set of policies. With --audit, show the same for connections that
audited policies would block.

Exit status: 0 something was blocked, 1 nothing was, 2 error.`,
		Example: `  netpold drops --follow --namespace shop
  netpold drops --top 5
  netpold drops --audit -n shop
  netpold drops -o json | jq -r '.dst.pod' | sort | uniq -c
  kubectl -n kube-system exec ds/netpold -- netpold drops`,
		Args: flags.Args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.Check(cmd); err != nil {
				return err
			}
			if flags.Top > 0 {
				return printTop(cmd.Context(), &flags, cmd.OutOrStdout())
			}
			return printLines(cmd.Context(), &flags, cmd.OutOrStdout())
		},
	}
	flags.Add(cmd)
	return cmd
}

// printLines prints lines as they arrive.
func printLines(ctx context.Context, f *command.DropsFlags, w io.Writer) error {
	body, err := open(ctx, "", f.Path("/drops"))
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read from
	lines, printed := json.NewDecoder(body), false
	next := func() (line drops.Line, err error) {
		err = lines.Decode(&line)
		return line, err
	}
	err = stream(ctx, f.Follow, next, func(line drops.Line) error {
		printed = printed || line.Record != nil
		return f.PrintLine(w, "", line)
	})
	return cmp.Or(err, command.Yes(printed))
}

// stream hands each value of the daemon's answer on until it ends, and returns an error if it should not have. An
// interrupt is the normal end of following.
//
//nolint:revive // follow is a fact
func stream[T any](ctx context.Context, follow bool, next func() (T, error), each func(T) error) error {
	for {
		value, err := next()
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF) && !follow:
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the daemon stopped")
		case err != nil:
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if err := each(value); err != nil {
			return err
		}
	}
}

// printTop prints the table of the pairs that were blocked most.
func printTop(ctx context.Context, f *command.DropsFlags, w io.Writer) error {
	var top drops.Top
	if err := ask(ctx, "", f.Path("/drops/top"), &top); err != nil {
		return err
	}
	var all command.Top
	all.Add("", top)
	return f.PrintTop(w, all)
}
