// SPDX-License-Identifier: Apache-2.0

// Package random makes clusters, events and flows for differential tests. Everything comes from a seeded source: equal
// seeds make equal clusters. Names, labels, ports and addresses come from small universes, so that they collide,
// overlap and touch; some rules are invalid, in every way that translate knows.
//
// A failing case is made smaller by [Minimise] and kept as a golden case by [Case].
package random
