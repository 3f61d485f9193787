// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/flows"
)

// observeFlags say whether flows are counted, and how many.
type observeFlags struct {
	on  bool
	max uint32
}

func (f *observeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.on, "observe", false,
		`count the new connections of this node's pods in the kernel, for "netpold flows"`)
	cmd.Flags().Uint32Var(&f.max, "observe-max", 16384,
		"maximum number of flows to count in each IP family; connections beyond it pass uncounted")
}

// size returns the most flows to count; 0 counts none.
func (f *observeFlags) size() (uint32, error) {
	switch {
	case !f.on:
		return 0, nil
	case f.max == 0:
		return 0, errors.New("--observe-max=0: want 1 or more")
	}
	return f.max, nil
}

func flowsCommand() *cobra.Command {
	var flags command.FlowsFlags
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show who has connected to whom on this node",
		Long: `Show the new connections from and to pods of this node, allowed and denied: all of them, counted by the
kernel. A flow is from one address to one port of another, after Services are translated, with one verdict;
txt output has one line for all flows between two workloads. The daemon on this node must run with --observe.

Exit status: 0 there are flows, 1 there are none, 2 error.`,
		Example: `  netpold flows --namespace shop --since 1h
  netpold flows --follow
  netpold flows -o json | jq -r 'select(.verdict == "denied") | .from.pod'
  kubectl -n kube-system exec ds/netpold -- netpold flows`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.Check(); err != nil {
				return err
			}
			return printFlows(cmd.Context(), &flags, cmd.OutOrStdout())
		},
	}
	flags.Add(cmd)
	return cmd
}

// printFlows prints what the daemon knows; with --follow, flow by flow until interrupted.
func printFlows(ctx context.Context, f *command.FlowsFlags, w io.Writer) error {
	body, err := open(ctx, "", f.Path())
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read from
	var all []flows.Flow
	printed := false
	err = stream(ctx, f.Follow, flows.NewReader(body).Next, func(flow flows.Flow) error {
		printed = true
		if f.Follow {
			return f.PrintFlow(w, flow)
		}
		all = append(all, flow)
		return nil
	})
	if len(all) > 0 && err == nil {
		err = f.Print(w, all)
	}
	return cmp.Or(err, command.Yes(printed))
}
