// SPDX-License-Identifier: Apache-2.0

// Command netpold enforces Kubernetes NetworkPolicy on a node with one nftables table.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, as grep(1)'s.
const (
	exitNo    = 1 // the answer is no: denied, not in sync
	exitError = 2 // there is no answer
)

// errNo ends a command whose answer, already printed, is no.
var errNo = errors.New("no") //nolint:gochecknoglobals // a sentinel error

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	switch {
	case errors.Is(err, errNo):
		os.Exit(exitNo)
	case err != nil:
		fmt.Fprintln(os.Stderr, "netpold:", err)
		os.Exit(exitError)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "netpold",
		Version: version(),
		Short:   "Enforce Kubernetes NetworkPolicy with one nftables table",
		Long: `netpold enforces Kubernetes NetworkPolicy on a node with one nftables table, "inet netpold",
beside any CNI whose pod traffic crosses the host's forward hook. Read the node with:
nft list table inet netpold`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(runCommand(), renderCommand(), explainCommand(), connectivityCommand(), diffCommand(),
		dropsCommand(), statusCommand(), cleanupCommand(), versionCommand())
	return root
}
