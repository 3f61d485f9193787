// SPDX-License-Identifier: Apache-2.0

// Package translate turns the cluster as NetworkPolicy sees it into the nft table that enforces it on one node.
//
// [State] takes pods, namespaces and policies, in any order, and keeps a [nft.Table] that depends on what they are and
// never on the order in which they came. An event costs what it changes: pods of equal namespace, labels and port names
// share an identity, and selectors are evaluated once for each identity. Package policy answers whether a flow is
// allowed from the policies' own text; the two share no code that decides, so that each can be held against the other.
//
// The package is pure: no netlink, no API client, no goroutines, no clock. Nothing in it is safe for concurrent use.
package translate
