// SPDX-License-Identifier: Apache-2.0

// Package translate turns the cluster as NetworkPolicy sees it into the nft table that enforces it on one node.
//
// [State] takes pods, namespaces and policies, in any order, and keeps a [nft.Table] that depends only on what they
// are, never on the order of events. An event costs what it changes: pods of equal namespace, labels and port names
// share an identity, and selectors are evaluated once for each identity. Package policy answers from the text of the
// policies whether a flow is allowed; the two share no code that decides, so that each can be checked against the
// other.
//
// The package is pure: no netlink, no API client, no goroutines, no clock. Nothing in it is safe for concurrent use.
package translate
