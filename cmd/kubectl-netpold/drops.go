// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/watch/drops"
)

func (c *cluster) dropsCommand() *cobra.Command {
	var flags command.DropsFlags
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Show which connections were blocked on which node, and why",
		Long: `Show the latest blocked connections of all nodes, up to 1,000 from each, in order of time; with
--follow, also new ones. With --top, show who was blocked most since the netpold of each node started.

With --follow, a node that stops answering is named and retried.

Exit status: 0 something was blocked, 1 nothing was, 2 error, also if a node did not answer.`,
		Example: `  netpold drops --follow --namespace shop
  netpold drops --top 5
  netpold drops -o json | jq -r '.node' | sort | uniq -c`,
		Args: flags.Args,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.Check(cmd); err != nil {
				return err
			}
			daemons, err := c.daemons(cmd.Context())
			if err != nil {
				return err
			}
			for _, d := range daemons {
				flags.NodeWidth = max(flags.NodeWidth, len(d.node))
			}
			if flags.Top > 0 {
				return c.topDrops(cmd, daemons, flags)
			}
			return c.dropLines(cmd, daemons, flags)
		},
	}
	flags.Add(cmd)
	return cmd
}

// nodeLine is a line of a node.
type nodeLine struct {
	node string
	drops.Line
}

// time returns when a line was written; a note of missed lines has no time.
func (l nodeLine) time() time.Time {
	if l.Record == nil {
		return time.Time{}
	}
	return l.Time
}

// readLine reads what `netpold drops -o json` prints on a node.
func readLine(node string, text []byte) (nodeLine, error) {
	line := nodeLine{node: node}
	err := json.Unmarshal(spaces(text), &line.Line)
	return line, err
}

// dropsArgs returns the arguments for a node's netpold.
func dropsArgs(flags command.DropsFlags) []string {
	args := []string{"drops", "-o", "json", "--namespace=" + flags.Namespace}
	if flags.Audit {
		args = append(args, "--audit")
	}
	return args
}

// dropLines prints the lines of all nodes and, with --follow, those to come.
func (c *cluster) dropLines(cmd *cobra.Command, daemons []daemon, flags command.DropsFlags) error {
	f := follower[nodeLine]{cluster: c, read: readLine, time: nodeLine.time, stderr: cmd.ErrOrStderr(),
		args: dropsArgs(flags)}
	print := func(lines []nodeLine) error { return printDrops(cmd.OutOrStdout(), flags, lines) }
	if flags.Follow {
		return f.printAll(cmd.Context(), daemons, print)
	}
	lines, missing := f.known(cmd.Context(), daemons)
	if err := print(lines); err != nil {
		return err
	}
	return cmp.Or(missing, command.Yes(len(lines) > 0))
}

// printDrops prints lines in the order of their times.
func printDrops(w io.Writer, flags command.DropsFlags, lines []nodeLine) error {
	slices.SortStableFunc(lines, func(a, b nodeLine) int {
		return cmp.Or(a.time().Compare(b.time()), cmp.Compare(a.node, b.node))
	})
	for _, l := range lines {
		if err := flags.PrintLine(w, l.node, l.Line); err != nil {
			return fmt.Errorf("print the lines: %w", err)
		}
	}
	return nil
}

// topDrops prints who was blocked most on any node. A pod is denied only on its own node, so no pair is counted by two
// nodes.
func (c *cluster) topDrops(cmd *cobra.Command, daemons []daemon, flags command.DropsFlags) error {
	args := append(dropsArgs(flags), "--top="+strconv.Itoa(flags.Top))
	answers := c.ask(cmd.Context(), daemons, cmd.ErrOrStderr(), args...)
	var top command.Top
	for node, t := range decode[drops.Top](oneLine(answers)) {
		top.Add(node, t)
	}
	return cmp.Or(missing(answers), flags.PrintTop(cmd.OutOrStdout(), top))
}
