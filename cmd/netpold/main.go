// SPDX-License-Identifier: Apache-2.0

// Command netpold enforces Kubernetes NetworkPolicy on a node with one nftables table.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	root := rootCommand()
	if cmd, _, err := root.Find(os.Args[1:]); err == nil && cmd.Name() != "run" { // which takes its time
		command.Interrupted(ctx)
	}
	err := root.ExecuteContext(ctx)
	stop()
	os.Exit(command.Exit(os.Stderr, err))
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "netpold",
		Version: command.Version(),
		Short:   "Enforce Kubernetes NetworkPolicy with one nftables table",
		Long: `netpold enforces Kubernetes NetworkPolicy on a node with one nftables table, "inet netpold",
beside any CNI whose pod traffic crosses the host's forward hook. Read the node with:
nft list table inet netpold`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(command.FlagError)
	untilEOF(root)
	root.AddCommand(runCommand(), renderCommand(), explainCommand(), command.Connectivity(&objects{}),
		command.Diff(nil), command.Suggest(&objects{}, seenFlows), dropsCommand(), flowsCommand(), statusCommand(),
		cleanupCommand(), command.VersionCommand())
	return root
}

// untilEOF adds --until-eof, which ends a command when its standard input ends: a process started by exec in a pod
// outlives its client, and only the end of standard input tells it that nobody listens any more.
func untilEOF(root *cobra.Command) {
	var until bool
	root.PersistentFlags().BoolVar(&until, "until-eof", false, "end when standard input ends")
	_ = root.PersistentFlags().MarkHidden("until-eof") // fails only for an unknown flag
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if !until {
			return
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		cmd.SetContext(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, cmd.InOrStdin()) // whatever ends it
			cancel()
		}()
	}
}
