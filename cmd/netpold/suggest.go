// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/flows"
)

// seenFlows fetches the observed flows from the daemon on this node.
func seenFlows(ctx context.Context) ([]flows.Flow, error) {
	body, err := open(ctx, "", new(command.FlowsFlags).Path())
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // only read from
	seen, err := flows.Read(body)
	if err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return seen, nil
}
