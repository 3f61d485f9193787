// SPDX-License-Identifier: Apache-2.0

// Package opening says what is open to an address: the ports that rules allow, and the chains that accept them. Blocks
// that overlap it cuts into disjoint ranges of addresses, each with the union of the ports of the blocks around it. It
// knows no pods and no policies.
package opening
