// SPDX-License-Identifier: Apache-2.0

// Package folding computes what is open after applying rules in order, tier by tier. Each step from one state to the
// next is computed once, whatever pods it is for.
package folding
