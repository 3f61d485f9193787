// SPDX-License-Identifier: Apache-2.0

// Package sets has the sets that package connectivity computes with: of ports, of addresses, and bitsets of numbers.
// Each set of ports has a number in a [PortTable], so that combining two a second time is a lookup. [Bundles] merges
// pairs of numbers. Both have an end to their room.
package sets
