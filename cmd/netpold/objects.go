// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/apiserver"
)

// objects are those of the API server in a kubeconfig.
type objects struct{ kubeconfig string }

// AddFlags adds --kubeconfig.
func (o *objects) AddFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.kubeconfig, "kubeconfig", "",
		"kubeconfig file (default $KUBECONFIG, then the pod's service account)")
	if cmd.Flags().Lookup("filename").Value.Type() == "string" { // of several, one may be flows
		cmd.MarkFlagsMutuallyExclusive("filename", "kubeconfig")
	}
}

// Fetch reads the objects from the API server.
func (o *objects) Fetch(ctx context.Context) (*policy.Cluster, error) {
	client, err := apiserver.NewClient(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	return command.Fetch(ctx, client)
}
