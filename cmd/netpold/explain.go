// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/watch/explain"
)

// explainFlags are the flags of `netpold explain`.
type explainFlags struct {
	command.ExplainFlags
	source string
}

func explainCommand() *cobra.Command {
	var flags explainFlags
	cmd := &cobra.Command{
		Use:   "explain [-f DIR|FILE|-] SRC DST:PORT[/PROTO]",
		Short: "Explain which policies decide a flow, and why",
		Long: `For each direction of a flow, show which policies isolate the pod, and which rule allows the
flow or comes nearest. SRC and DST are namespace/pod or an address; PROTO is tcp (the default), udp or sctp;
":icmp" in place of the port is a ping. The answer comes from the text of the policies; --rules adds the nftables rules
that decide.

Without -f, it asks the daemon on this node about the cluster as it is now; --rules shows this node's rules,
and --verify also compares them with what the kernel holds. With -f, it answers for the cluster in these
manifests; rules over a limit are left out only with --rules or with a limit other than the default.

Exit status: 0 allowed, 1 denied, 2 error. With --verify, a kernel that holds something else is an error.`,
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
			return flags.Print(cmd.OutOrStdout(), explanation)
		},
	}
	command.AddSourceFlag(cmd, &flags.source, "default ask the daemon")
	flags.Add(cmd)
	cmd.MarkFlagsMutuallyExclusive("filename", "verify")
	return cmd
}

// explain gets the answer from the daemon, or from the manifests.
func (f explainFlags) explain(cmd *cobra.Command, src, dst string) (explain.Answer, error) {
	if f.source == "" {
		query := url.Values{"src": {src}, "dst": {dst}, "verify": {strconv.FormatBool(f.Verify)}}
		var e explain.Answer
		err := ask(cmd.Context(), "", "/explain?"+query.Encode(), &e)
		return e, err
	}
	cluster, err := command.LoadOffline(cmd, f.source)
	if err != nil {
		return explain.Answer{}, err
	}
	return f.Explain(cluster, src, dst)
}
