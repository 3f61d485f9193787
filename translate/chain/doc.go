// SPDX-License-Identifier: Apache-2.0

// Package chain has an isolation in a table: its chain, the sets and maps that only this chain looks up, and those that
// it shares with others. It knows addresses and ports; whose they are, and which policies say so, is the matter of
// package translate.
package chain
