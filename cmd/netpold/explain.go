// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// explainFlags are the flags of `netpold explain`.
type explainFlags struct {
	source        string
	rules, verify bool
	limits        translate.Limits
}

func explainCommand() *cobra.Command {
	var flags explainFlags
	cmd := &cobra.Command{
		Use:   "explain [-f DIR|FILE|-] SRC DST:PORT[/PROTO]",
		Short: "Say which policies decide about a flow, and why",
		Long: `Say for each direction of a flow which policies isolate the pod, and which rule allows the flow or comes nearest.
SRC and DST are namespace/pod or an address; PROTO is tcp (the default), udp or sctp; ":icmp" in place of the port is a ping.
The answer comes from the policies' own text; with --rules, also the nftables rules that decide.

With -f it is about the cluster of those manifests. Without, the daemon on this node is asked, about the cluster as it is now, and --rules
shows the rules of this node (and the limits are the daemon's); --verify also reads back from the kernel what they refer to.

Exit status: 0 allowed, 1 denied, 2 error. That the kernel holds something else, with --verify, is an error.`,
		Example: `  netpold explain shop/web-1 shop/db-0:6379/tcp
  netpold explain --verify 192.0.2.7 shop/web-1:443

  kubectl get -A pods,namespaces,networkpolicies -o yaml > cluster.yaml
  netpold explain -f cluster.yaml shop/web-1 '[2001:db8::53]:53/udp' --rules`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.source == "" {
				return flags.askDaemon(cmd, args[0], args[1])
			}
			return flags.read(cmd, args[0], args[1])
		},
	}
	cmd.Flags().StringVarP(&flags.source, "filename", "f", "", "folder or file of manifests, YAML or JSON; - reads standard input (default ask the daemon)")
	cmd.Flags().BoolVar(&flags.rules, "rules", false, "also print the nftables rules that the flow matches")
	cmd.Flags().BoolVar(&flags.verify, "verify", false, "also print the rules, and what the kernel holds of them")
	addLimitFlags(cmd, &flags.limits)
	cmd.MarkFlagsMutuallyExclusive("filename", "verify")
	return cmd
}

// read answers from manifests.
func (f explainFlags) read(cmd *cobra.Command, src, dst string) error {
	cluster, errs, err := loadCluster(f.source, cmd.InOrStdin())
	if err != nil {
		return err
	}
	errs = append(errs, translate.New("", translate.Options{}).Add(cluster)...)
	for _, err := range errs {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
	}
	flows, err := cluster.ParseFlows(src, dst)
	if err != nil {
		return err
	}
	allowed := true
	for _, flow := range flows {
		translate.HoldToLimits(cluster, flow, f.limits)
		answer := cluster.Explain(flow)
		fmt.Fprint(cmd.OutOrStdout(), cluster.Describe(answer))
		traces, err := f.rulesOf(cluster, answer)
		if err != nil {
			return err
		}
		if f.rules {
			printTraces(cmd.OutOrStdout(), traces)
		}
		allowed = allowed && answer.Allowed
	}
	if !allowed {
		return errNo
	}
	return nil
}

// askDaemon answers with what the daemon says.
func (f explainFlags) askDaemon(cmd *cobra.Command, src, dst string) error {
	query := url.Values{"src": {src}, "dst": {dst}, "verify": {strconv.FormatBool(f.verify)}}
	var answer watch.Explanation
	if err := ask(cmd.Context(), "", "/explain?"+query.Encode(), &answer); err != nil {
		return err
	}
	missing := 0
	for _, flow := range answer.Flows {
		fmt.Fprint(cmd.OutOrStdout(), flow.Text)
		if f.rules || f.verify {
			missing += printRules(cmd.OutOrStdout(), answer.Node, flow)
		}
	}
	switch {
	case missing > 0:
		return fmt.Errorf("the kernel does not hold what the daemon says, in %d places: ask again; if it stays so, please report it", missing)
	case !answer.Allowed:
		return errNo
	}
	return nil
}

// printRules prints the rules that a flow matches, and returns how many of them the kernel does not hold.
func printRules(w io.Writer, node string, flow watch.FlowText) (missing int) {
	fmt.Fprintf(w, "  rules on node %s:\n", node)
	for _, rule := range flow.Rules {
		printRule(w, rule.Chain, rule.Rule, rule.Element)
		switch {
		case rule.Missing:
			fmt.Fprintf(w, "      kernel: DIFFERS: %s\n", rule.Kernel)
			missing++
		case rule.Kernel != "":
			fmt.Fprintf(w, "      kernel: %s\n", rule.Kernel)
		}
	}
	for _, difference := range flow.Differs {
		fmt.Fprintf(w, "    kernel: DIFFERS: %s\n", difference)
	}
	fmt.Fprintf(w, "    verdict: %s\n", flow.Verdict)
	return missing + len(flow.Differs)
}

// printRule prints one rule, and the element that its lookup finds.
func printRule(w io.Writer, chain, rule, element string) {
	fmt.Fprintf(w, "    %s: %s", chain, rule)
	if element != "" {
		fmt.Fprintf(w, " { %s }", element)
	}
	fmt.Fprintln(w)
}

// rulesOf follows the flow through the rules of the nodes that enforce it, and holds their verdict against the policies' own.
func (f explainFlags) rulesOf(cluster *policy.Cluster, answer policy.Answer) ([]translate.NodeTrace, error) {
	traces, err := translate.Trace(cluster, answer.Flow, translate.Options{Limits: f.limits})
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
			printRule(w, step.Chain, step.Rule.String(), step.Element())
		}
		fmt.Fprintf(w, "    verdict: %s\n", t.Verdict)
	}
}
