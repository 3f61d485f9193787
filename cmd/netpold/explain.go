// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
)

func explainCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "explain -f DIR|FILE|- SRC DST:PORT[/PROTO]",
		Short: "Say which policies decide about a flow, and why",
		Long: `Say for each direction of a flow which policies isolate the pod, and which rule allows the flow or comes nearest.
SRC and DST are namespace/pod or an address; PROTO is tcp (the default), udp or sctp; ":icmp" in place of the port is a ping.
The answer comes from the policies' own text; with --rules, also the nftables rules that decide.

Exit status: 0 allowed, 1 denied, 2 error.`,
		Example: `  kubectl get -A pods,namespaces,networkpolicies -o yaml > cluster.yaml
  netpold explain -f cluster.yaml shop/web-1 shop/db-0:6379/tcp
  netpold explain -f cluster.yaml 192.0.2.7 shop/web-1:443
  netpold explain -f cluster.yaml shop/web-1 '[2001:db8::53]:53/udp' --rules`,
		Args: cobra.ExactArgs(2),
	}
	rules := cmd.Flags().Bool("rules", false, "also print the nftables rules that the flow matches on each node")
	addSourceFlag(cmd, &source)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cluster, errs, err := loadCluster(source, cmd.InOrStdin())
		if err != nil {
			return err
		}
		errs = append(errs, cluster.AddTo(translate.New("", translate.Options{}))...)
		for _, err := range errs {
			fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
		}
		flows, err := cluster.ParseFlows(args[0], args[1])
		if err != nil {
			return err
		}
		allowed := true
		for _, f := range flows {
			answer := cluster.Explain(f)
			fmt.Fprint(cmd.OutOrStdout(), cluster.Describe(answer))
			traces, err := rulesOf(cluster, answer)
			if err != nil {
				return err
			}
			if *rules {
				printTraces(cmd.OutOrStdout(), traces)
			}
			allowed = allowed && answer.Allowed
		}
		if !allowed {
			return errNo
		}
		return nil
	}
	return cmd
}

// rulesOf follows the flow through the rules of the nodes that enforce it, and holds their verdict against the policies' own.
func rulesOf(cluster *translate.Cluster, answer translate.Explanation) ([]translate.NodeTrace, error) {
	traces, err := cluster.Trace(answer.Flow, translate.Options{})
	if err != nil {
		return nil, err
	}
	denied := slices.ContainsFunc(traces, func(t translate.NodeTrace) bool { return t.Verdict.Kind != nft.Accept })
	if denied == answer.Allowed {
		return nil, fmt.Errorf("the rules and the policies disagree about %s: this is a bug in netpold, please report it", answer.Flow)
	}
	return traces, nil
}

func printTraces(w io.Writer, traces []translate.NodeTrace) {
	for _, t := range traces {
		fmt.Fprintf(w, "  rules on node %s:\n", t.Node)
		for _, step := range t.Steps {
			fmt.Fprintf(w, "    %s: %s", step.Chain, step.Rule)
			if e := step.Element(); e != "" {
				fmt.Fprintf(w, " { %s }", e)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "    verdict: %s\n", t.Verdict)
	}
}
