// SPDX-License-Identifier: Apache-2.0

// Command netpold enforces Kubernetes NetworkPolicy on a node with one nftables table.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
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
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(runCommand(), renderCommand(), explainCommand(), command.Connectivity(&objects{}), command.Diff(),
		dropsCommand(), statusCommand(), cleanupCommand(), command.VersionCommand())
	return root
}
