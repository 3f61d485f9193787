// SPDX-License-Identifier: Apache-2.0

// Package sets has the sets that package connectivity computes with: of ports, of addresses, and of numbers as bits.
// Each set of ports has a number in a [PortTable], so that to combine two a second time is to look them up. [Bundles]
// takes pairs of numbers together.
package sets
