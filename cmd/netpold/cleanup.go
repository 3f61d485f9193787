// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/translate/frame"
)

func cleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove the table from this node",
		Long: `Remove the table "inet netpold" from this node, and with it every restriction that netpold
enforces. It does nothing if there is no table. Stop "netpold run" first, or it writes the table again.`,
		Example: `  netpold cleanup`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := kernel.Open(kernel.Config{}) // deleting a table needs nothing that a kernel might lack
			if err != nil {
				return err
			}
			defer conn.Close() //nolint:errcheck // the process ends
			// Before Linux 5.12 the lock outlives the netpold that took it.
			if lock, err := checkLock(cmd.Context()); err == nil && lock != nil {
				if err := conn.DeleteTable(cmd.Context(), nodeLock); err != nil {
					return err
				}
			}
			return errors.Join(
				conn.DeleteTable(cmd.Context(), frame.TableName),
				// left by a netpold that was killed while it replaced the table
				conn.DeleteTable(cmd.Context(), frame.HandoverTable),
			)
		},
	}
}
