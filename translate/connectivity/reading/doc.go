// SPDX-License-Identifier: Apache-2.0

// Package reading reads the policies of a cluster into [Rules], where each selector and each block is there once, and
// its pods into identities: pods that no policy can tell apart but by their addresses. It finds which identities a
// selector matches and which addresses a block has, and decides nothing.
package reading
