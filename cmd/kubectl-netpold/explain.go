// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/explain"
)

func (c *cluster) explainCommand() *cobra.Command {
	var flags command.ExplainFlags
	cmd := &cobra.Command{
		Use:   "explain SRC DST:PORT[/PROTO]",
		Short: "Explain which policies decide a flow, and why",
		Long: `For each direction of a flow, show which policies isolate the pod, and which rule allows the
flow or comes nearest. SRC and DST are namespace/pod or an address; PROTO is tcp (the default), udp or
sctp; ":icmp" in place of the port is a ping. The answer comes from the text of the policies in the
API server.

With --verify, the nodes of SRC and DST answer instead, each from its own objects and limits, and compare
the answer with what their kernels hold.

Exit status: 0 allowed, 1 denied, 2 error. With --verify, a kernel that holds something else is an error.`,
		Example: `  netpold explain shop/web-1 shop/db-0:6379/tcp
  netpold explain --verify 192.0.2.7 shop/web-1:443`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completePods,
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := c.Fetch(cmd.Context())
			if err != nil {
				return err
			}
			explanation, err := flags.Explain(objects, args[0], args[1])
			if err != nil {
				return err
			}
			if flags.Verify {
				return c.verify(cmd, flags, objects, args)
			}
			return flags.Print(cmd.OutOrStdout(), explanation)
		},
	}
	flags.Add(cmd)
	return cmd
}

// verify prints what the nodes at the flow's ends say about it.
func (c *cluster) verify(cmd *cobra.Command, flags command.ExplainFlags, objects *policy.Cluster, args []string) error {
	daemons, err := c.daemons(cmd.Context())
	if err != nil {
		return err
	}
	nodes, err := nodesOf(objects, args[0], args[1])
	if err != nil {
		return err
	}
	daemons = daemonsOn(daemons, nodes)
	answers := c.ask(cmd.Context(), daemons, cmd.ErrOrStderr(), "explain", "--verify", "-o", "json", args[0], args[1])
	explanations := decode[explain.Answer](answers)
	if flags.Output == "json" {
		if err := command.PrintJSON(cmd.OutOrStdout(), map[string]any{"nodes": explanations}); err != nil {
			return fmt.Errorf("print the answers: %w", err)
		}
	}
	var no error
	for _, a := range answers {
		e, ok := explanations[a.node]
		if !ok {
			continue
		}
		var err error
		if flags.Output == "text" {
			var text strings.Builder
			err = flags.Print(&text, e)
			fmt.Fprintf(cmd.OutOrStdout(), "Node %s says:\n  %s\n", a.node,
				strings.ReplaceAll(strings.TrimSpace(text.String()), "\n", "\n  "))
		} else {
			err = command.Yes(e.Allowed)
		}
		if err != nil && no == nil || err != nil && err != command.ErrNo { //nolint:errorlint // the very one
			no = err
		}
	}
	return cmp.Or(missing(answers), no)
}

// nodesOf returns the nodes of the pods at the ends of flows.
func nodesOf(objects *policy.Cluster, src, dst string) ([]string, error) {
	flows, err := objects.ParseFlows(src, dst)
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, f := range flows {
		for _, a := range []netip.Addr{f.Src, f.Dst} {
			if p := objects.Owner(a); p != nil && p.Node != "" && !slices.Contains(nodes, p.Node) {
				nodes = append(nodes, p.Node)
			}
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("neither %s nor %s is a pod: there is no node to ask", src, dst)
	}
	return nodes, nil
}
