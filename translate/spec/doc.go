// SPDX-License-Identifier: Apache-2.0

// Package spec compiles the spec of a NetworkPolicy: what it selects, the directions in which it isolates, and its
// rules as peers, blocks of addresses and canonical sets of ports. It knows no pods and no table.
//
// It is one of two readings of the same text; package policy, the oracle, has the other and shares only plain types
// with it.
package spec
