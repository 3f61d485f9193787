// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

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
		Short: "Explain which policies decide a flow, and why",
		Long: `Say for each direction of a flow which policies isolate the pod, and which rule allows the
flow or comes nearest. SRC and DST are namespace/pod or an address; PROTO is tcp (the default), udp or
sctp; ":icmp" in place of the port is a ping. The answer comes from the policies' own text; with --rules,
also the nftables rules that decide.

With -f it is about the cluster of those manifests; what is over a limit is left out with --rules, or with
a limit that is not the default. Without -f, the daemon on this node is asked, about the cluster as it is
now and by its limits, and --rules shows the rules of this node; --verify also reads back from the kernel
what they refer to.

Exit status: 0 allowed, 1 denied, 2 error. That the kernel holds something else, with --verify, is an
error.`,
		Example: `  netpold explain shop/web-1 shop/db-0:6379/tcp
  netpold explain --verify 192.0.2.7 shop/web-1:443

  kubectl get -A pods,namespaces,networkpolicies -o yaml > cluster.yaml
  netpold explain -f cluster.yaml shop/web-1 '[2001:db8::53]:53/udp' --rules`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			explanation, err := flags.explain(cmd, args[0], args[1])
			if err != nil {
				return err
			}
			missing := flags.print(cmd.OutOrStdout(), explanation)
			switch {
			case missing > 0:
				return fmt.Errorf("the kernel differs from what the daemon says in %d places: try again; if it "+
					"persists, please report it", missing)
			case !explanation.Allowed:
				return errNo
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&flags.source, "filename", "f", "",
		"folder or file of manifests, YAML or JSON; - reads standard input (default ask the daemon)")
	cmd.Flags().BoolVar(&flags.rules, "rules", false, "also print the nftables rules that the flow matches")
	cmd.Flags().BoolVar(&flags.verify, "verify", false, "also print the rules, and compare them with the kernel's")
	addLimitFlags(cmd, &flags.limits)
	cmd.MarkFlagsMutuallyExclusive("filename", "verify")
	return cmd
}

// explain asks whoever knows: the daemon, or the manifests.
func (f explainFlags) explain(cmd *cobra.Command, src, dst string) (watch.Explanation, error) {
	if f.source == "" {
		query := url.Values{"src": {src}, "dst": {dst}, "verify": {strconv.FormatBool(f.verify)}}
		var e watch.Explanation
		err := ask(cmd.Context(), "", "/explain?"+query.Encode(), &e)
		return e, err
	}
	cluster, errs, err := loadCluster(f.source, cmd.InOrStdin())
	if err != nil {
		return watch.Explanation{}, err
	}
	for _, err := range append(errs, cluster.Faults()...) {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
	}
	return f.offline(cluster, src, dst)
}

// offline answers about a cluster of manifests. It makes the tables of nodes only if they matter.
func (f explainFlags) offline(cluster *policy.Cluster, src, dst string) (watch.Explanation, error) {
	flows, err := cluster.ParseFlows(src, dst)
	if err != nil {
		return watch.Explanation{}, err
	}
	var e watch.Explanation
	for _, flow := range flows {
		var traces []translate.NodeTrace
		if f.rules || f.limits != translate.DefaultLimits() {
			if traces, err = translate.Trace(cluster, flow, translate.Options{Limits: f.limits}); err != nil {
				return watch.Explanation{}, err
			}
		}
		text, err := watch.ExplainFlow(cluster, flow, traces)
		if err != nil {
			return watch.Explanation{}, err
		}
		e.Add(text)
	}
	return e, nil
}

// print prints an answer, and returns in how many places the kernel holds something else.
func (f explainFlags) print(w io.Writer, e watch.Explanation) (missing int) {
	for _, flow := range e.Flows {
		fmt.Fprint(w, flow.Text)
		if f.rules || f.verify {
			for _, node := range flow.Nodes {
				missing += printRules(w, node)
			}
		}
	}
	return missing
}

// printRules prints the rules that a flow matches on a node, and returns how many of them the kernel does not hold.
func printRules(w io.Writer, node watch.NodeText) (missing int) {
	fmt.Fprintf(w, "  rules on node %s:\n", node.Node)
	for _, rule := range node.Rules {
		fmt.Fprintf(w, "    %s: %s", rule.Chain, rule.Rule)
		if rule.Element != "" {
			fmt.Fprintf(w, " { %s }", rule.Element)
		}
		fmt.Fprintln(w)
		switch {
		case rule.Missing:
			fmt.Fprintf(w, "      kernel: DIFFERS: %s\n", rule.Kernel)
			missing++
		case rule.Kernel != "":
			fmt.Fprintf(w, "      kernel: %s\n", rule.Kernel)
		}
	}
	for _, difference := range node.Differs {
		fmt.Fprintf(w, "    kernel: DIFFERS: %s\n", difference)
	}
	fmt.Fprintf(w, "    verdict: %s\n", node.Verdict)
	return missing + len(node.Differs)
}
