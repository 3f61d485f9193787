// SPDX-License-Identifier: Apache-2.0

// Package chain writes an isolation into a table: its chain, the sets and maps that only this chain looks up, and those
// that it shares with others. It knows addresses and ports; package translate knows whose they are, and which policies
// say so.
package chain
