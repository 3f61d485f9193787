// SPDX-License-Identifier: Apache-2.0

// Package opening has what is open to an address: the ports that rules allow, and the chains that accept them. It cuts
// overlapping blocks into disjoint ranges of addresses, each with the union of the ports of the blocks around it. It
// knows neither pods nor policies.
package opening
