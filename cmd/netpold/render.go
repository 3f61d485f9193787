// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/policy"
)

func renderCommand() *cobra.Command {
	var source, node string
	var table tableFlags
	cmd := &cobra.Command{
		Use:   "render -f DIR|FILE|- --node NODE",
		Short: "Print a node's ruleset for a set of manifests",
		Long: `Print the ruleset that a node gets for the pods, namespaces and policies in manifests, in the form
that "nft -f" loads and "nft list table" prints. It needs no root, no kernel and no cluster. Rules that do not
compile or are over a limit are reported on standard error.

Exit status: 0 everything compiled, 1 some rules were left out, 2 error.`,
		Example: `  # What would node worker-1 enforce?
  kubectl get -A pods,namespaces,networkpolicies -o yaml | netpold render -f - --node worker-1

  # Load it in an empty network namespace, to look at it
  netpold render -f manifests/ --node worker-1 > netpold.nft && unshare -rn nft -f netpold.nft`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := table.options()
			if err != nil {
				return err
			}
			cluster, errs, err := command.Load(source, cmd.InOrStdin())
			if err != nil {
				return err
			}
			state := translate.New(node, options)
			errs = append(errs, state.Add(cluster)...)
			for _, err := range errs {
				fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
			}
			if !slices.ContainsFunc(cluster.Pods, func(p policy.Pod) bool { return p.Node == node }) {
				fmt.Fprintf(cmd.ErrOrStderr(), "netpold: no pod is on node %q\n", node)
			}
			ruleset := state.Complete()
			for t := range state.Troubles() {
				if t.Kind == book.OverLimit {
					err := fmt.Errorf("NetworkPolicy %s: over a limit; the excess allows nothing: %s",
						t.Policies[0], t.Reason)
					fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
					errs = append(errs, err)
				}
			}
			if _, err := ruleset.WriteTo(cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("print the ruleset: %w", err)
			}
			if len(errs) > 0 {
				return command.ErrNo
			}
			return nil
		},
	}
	command.AddSourceFlag(cmd, &source, "required")
	_ = cmd.MarkFlagRequired("filename") // fails only for an unknown flag
	addNodeFlag(cmd, &node)
	table.add(cmd)
	return cmd
}

// addNodeFlag adds --node, whose default is $NODE_NAME or else the host name.
func addNodeFlag(cmd *cobra.Command, node *string) {
	name := os.Getenv("NODE_NAME")
	if name == "" {
		name, _ = os.Hostname() // without one, the flag is required
	}
	cmd.Flags().StringVar(node, "node", name,
		"name of the node, as in spec.nodeName of its pods (default $NODE_NAME, then the host name)")
}
