// SPDX-License-Identifier: Apache-2.0

// Package aside keeps track of what is set aside because the kernel refuses it: isolations, lists of the tiers, and pod
// addresses. It also says which of them an object of a table belongs to, so that a refused object leads to what must be
// set aside.
package aside
