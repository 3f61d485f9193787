// SPDX-License-Identifier: Apache-2.0

// Package folding works out what is open when rules are asked in their order, tier by tier. Each step from a state to
// the next is worked out once, whatever pods it is for.
package folding
