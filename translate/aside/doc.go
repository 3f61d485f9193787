// SPDX-License-Identifier: Apache-2.0

// Package aside keeps account of what is set aside, since the kernel refuses it: isolations, lists of the tiers, and
// addresses of pods. It also says which of them an object of a table is there for, so that what is refused leads to
// what is to be set aside.
package aside
