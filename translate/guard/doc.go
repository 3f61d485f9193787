// SPDX-License-Identifier: Apache-2.0

// Package guard decides which addresses or links of a node only its pods use, so that its table can deny those without
// a known pod. Package [frame] has the rules.
//
// It goes by the node's spec.podCIDRs if they contain all known pods, and otherwise by the operator's settings.
//
// [frame]: github.com/netpold/netpold/translate/frame
package guard
