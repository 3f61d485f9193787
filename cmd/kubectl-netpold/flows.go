// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/flows"
)

func (c *cluster) flowsCommand() *cobra.Command {
	var flags command.FlowsFlags
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show who has connected to whom in the cluster",
		Long: `Show the new connections from and to pods, allowed and denied, as counted by the nodes, where
netpold must run with --observe. A connection between two nodes counts once, and as denied if either node
denied it. With --follow, print each node's flows as they are seen.

Exit status: 0 there are flows, 1 there are none, 2 error, also if a node did not answer.`,
		Example: `  netpold flows --namespace shop --since 1h
  netpold flows -o json > flows.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.Check(); err != nil {
				return err
			}
			return c.printFlows(cmd, flags)
		},
	}
	flags.Add(cmd)
	return cmd
}

// flowsArgs returns the arguments for a node's netpold.
func flowsArgs(f command.FlowsFlags) []string {
	return []string{"flows", "-o", "json", "--namespace=" + f.Namespace, "--since=" + f.Since.String()}
}

// readFlow reads what `netpold flows -o json` prints on a node.
func readFlow(node string, text []byte) (flows.Flow, error) {
	flow, err := flows.NewReader(bytes.NewReader(spaces(text))).Next()
	flow.Node = node // whatever the node claims
	return flow, err
}

// nodeFlows asks the nodes for flows.
func (c *cluster) nodeFlows(stderr io.Writer, args ...string) *follower[flows.Flow] {
	return &follower[flows.Flow]{cluster: c, read: readFlow, stderr: stderr, args: args,
		time: func(f flows.Flow) time.Time { return f.Last }}
}

// printFlows prints the flows of all nodes, merged; with --follow, each node's own, and then those to come.
func (c *cluster) printFlows(cmd *cobra.Command, flags command.FlowsFlags) error {
	daemons, err := c.daemons(cmd.Context())
	if err != nil {
		return err
	}
	f := c.nodeFlows(cmd.ErrOrStderr(), flowsArgs(flags)...)
	if !flags.Follow {
		all, missing := f.known(cmd.Context(), daemons)
		merged := flows.Merge(flows.Settle(all))
		if len(merged) > 0 {
			if err := flags.Print(cmd.OutOrStdout(), merged); err != nil {
				return fmt.Errorf("print the flows: %w", err)
			}
		}
		return cmp.Or(missing, command.Yes(len(merged) > 0))
	}
	for _, d := range daemons {
		flags.NodeWidth = max(flags.NodeWidth, len(d.node))
	}
	return f.printAll(cmd.Context(), daemons, func(some []flows.Flow) error {
		slices.SortStableFunc(some, func(a, b flows.Flow) int { return a.Last.Compare(b.Last) })
		for _, f := range some {
			if err := flags.PrintFlow(cmd.OutOrStdout(), f); err != nil {
				return fmt.Errorf("print the flows: %w", err)
			}
		}
		return nil
	})
}

// seenFlows returns the flows of all nodes for a suggestion. If one node did not answer, the policies would block what
// it has seen.
func (c *cluster) seenFlows(ctx context.Context) ([]flows.Flow, error) {
	daemons, err := c.daemons(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.nodeFlows(io.Discard, "flows", "-o", "json").known(ctx, daemons)
	if err != nil {
		return nil, err
	}
	return flows.Merge(flows.Settle(all)), nil
}
