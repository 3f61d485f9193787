// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
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
		Long: `Show the new connections from and to pods, allowed and denied, as the nodes have counted them:
netpold must run there with --observe. A connection between two nodes counts once, and as denied if either
node denied it. With --follow, print the flows of each node as they are seen.

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

// flowsArgs returns the command of a node.
func flowsArgs(f command.FlowsFlags) []string {
	return []string{"flows", "-o", "json", "--namespace=" + f.Namespace, "--since=" + f.Since.String()}
}

// nodeFlow is a flow of a node.
type nodeFlow struct{ flows.Flow }

func (f nodeFlow) time() time.Time { return f.Last }

// readFlow reads what `netpold flows -o json` prints on a node.
func readFlow(node string, text []byte) (nodeFlow, error) {
	flow, err := flows.NewReader(bytes.NewReader(text)).Next()
	flow.Node = node // whatever it says
	return nodeFlow{flow}, err
}

// printFlows prints the flows of all nodes, and then those to come.
func (c *cluster) printFlows(cmd *cobra.Command, flags command.FlowsFlags) error {
	daemons, err := c.daemons(cmd.Context())
	if err != nil {
		return err
	}
	all, err := c.allFlows(cmd.Context(), daemons, cmd.ErrOrStderr(), flowsArgs(flags)...)
	if !flags.Follow {
		merged := flows.Merge(flows.Settle(all))
		if len(merged) > 0 {
			if err := flags.Print(cmd.OutOrStdout(), merged); err != nil {
				return fmt.Errorf("print the flows: %w", err)
			}
		}
		return worse(err, command.Yes(len(merged) > 0))
	}
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
	}
	return c.followFlows(cmd, flags, daemons, all)
}

// followFlows prints the flows that are known, and then those to come, each with its node.
func (c *cluster) followFlows(cmd *cobra.Command, flags command.FlowsFlags, daemons []daemon,
	all []flows.Flow) error {
	for _, d := range daemons {
		flags.NodeWidth = max(flags.NodeWidth, len(d.node))
	}
	newest := make(map[string]time.Time)
	known := make([]nodeFlow, 0, len(all))
	for _, f := range all {
		known = append(known, nodeFlow{f})
		if f.Last.After(newest[f.Node]) {
			newest[f.Node] = f.Last
		}
	}
	print := func(some []nodeFlow) error {
		slices.SortStableFunc(some, func(a, b nodeFlow) int { return a.Last.Compare(b.Last) })
		for _, f := range some {
			if err := flags.PrintFlow(cmd.OutOrStdout(), f.Flow); err != nil {
				return fmt.Errorf("print the flows: %w", err)
			}
		}
		return nil
	}
	if err := print(known); err != nil {
		return err
	}
	f := follower[nodeFlow]{cluster: c, read: readFlow, newest: newest, stderr: cmd.ErrOrStderr(),
		args: append(flowsArgs(flags), "--follow")}
	followed := 0
	err := f.run(cmd.Context(), daemons, func(more []nodeFlow) error {
		followed += len(more)
		return print(more)
	})
	return worse(err, command.Yes(len(all)+followed > 0))
}

// allFlows returns the flows of all nodes, and an error that names those that did not answer.
func (c *cluster) allFlows(ctx context.Context, daemons []daemon, stderr io.Writer,
	args ...string) ([]flows.Flow, error) {
	answers := c.ask(ctx, daemons, stderr, args...)
	var all []flows.Flow
	for i, a := range answers {
		some, err := flows.Read(bytes.NewReader(a.stdout))
		if err != nil {
			answers[i].err = unreadable(err)
			continue
		}
		for _, f := range some {
			f.Node = a.node // whatever it says
			all = append(all, f)
		}
	}
	return all, missing(answers)
}

// seenFlows returns the flows of all nodes for a suggestion. Without those of a node, policies would stop what it has
// seen.
func (c *cluster) seenFlows(ctx context.Context) ([]flows.Flow, error) {
	daemons, err := c.daemons(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.allFlows(ctx, daemons, io.Discard, "flows", "-o", "json")
	if err != nil {
		return nil, err
	}
	return flows.Merge(flows.Settle(all)), nil
}
