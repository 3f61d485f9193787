// SPDX-License-Identifier: Apache-2.0

// Package reading reads the policies of a cluster into [Rules], which have each selector and each block once, and its
// pods into identities: pods that policies can distinguish only by address. It finds which identities a selector
// matches and which addresses a block covers, and decides nothing.
package reading
