// SPDX-License-Identifier: Apache-2.0

// Package guard decides which addresses, or links, of a node are for its pods alone, so that its table can deny what no
// known pod has there. Package [frame] has the rules.
//
// It goes by the node's spec.podCIDRs where they hold all pods that are known, else by what the operator says.
//
// [frame]: github.com/netpold/netpold/translate/frame
package guard
