// SPDX-License-Identifier: Apache-2.0

// Command kubectl-netpold asks about NetworkPolicy in a whole cluster, as `kubectl netpold`: objects from the API
// server, and the netpold of each node by exec, all with the user's own rights.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/klog/v2"

	"github.com/netpold/netpold/cmd/internal/command"
)

func main() {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // errors are returned and printed once
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	command.Interrupted(ctx)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	os.Exit(command.Exit(os.Stderr, err))
}

// defaultTimeout is how long a node may take to answer. Its daemon answers in milliseconds; an exec takes up to a
// second.
const defaultTimeout = 10 * time.Second

func rootCommand() *cobra.Command {
	c := &cluster{flags: genericclioptions.NewConfigFlags(true)}
	c.flags.Namespace = nil // each command defines its own -n
	*c.flags.Timeout = "1m" // of a request to the API server; kubectl's is none
	root := &cobra.Command{
		Use:         "kubectl-netpold",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl netpold"},
		Version:     command.Version(),
		Short:       "Inspect NetworkPolicy across the whole cluster",
		Long: `kubectl netpold answers for a whole cluster what "netpold" answers for a node: which
connections the policies allow, which were blocked on which node and why, and whether the policies are in
force everywhere.

Pods, namespaces and policies come from the API server. Each node's netpold is asked by exec into its pod, all
nodes at once, which needs the right to create pods/exec there. A node that does not answer within --timeout
is named, and the others are shown without it.

Exit status: as for the same "netpold" command; also 2 if a node did not answer.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(command.FlagError)
	c.flags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&c.namespace, "netpold-namespace", "",
		"namespace of netpold's own pods (default: all are searched)")
	root.PersistentFlags().DurationVar(&c.timeout, "timeout", defaultTimeout, "how long to wait for a node's answer")
	_ = root.RegisterFlagCompletionFunc("netpold-namespace", c.completeNamespaces) // fails only for an unknown flag
	root.PersistentPreRun = func(*cobra.Command, []string) { root.SetOut(plain{root.OutOrStdout()}) }
	root.AddCommand(c.statusCommand(), c.dropsCommand(), c.flowsCommand(), c.explainCommand(), command.Connectivity(c),
		command.Diff(c), command.Suggest(c, c.seenFlows), command.VersionCommand())
	for _, cmd := range root.Commands() {
		cmd.Example = strings.ReplaceAll(cmd.Example, "  netpold ", "  kubectl netpold ")
		if cmd.Flag("namespace") != nil {
			_ = cmd.RegisterFlagCompletionFunc("namespace", c.completeNamespaces) // likewise
		}
	}
	return root
}
