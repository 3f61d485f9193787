// SPDX-License-Identifier: Apache-2.0

// Package nft models one nftables table of the inet family: what should exist, never how to get there.
//
// A [Table] holds chains, rules, sets and maps. Callers edit it freely; it remembers where the kernel differs, and
// [Table.Pending] returns that difference as one [Transaction], which package nft/kernel commits as one netlink batch.
// The text form of a table ([Table.String]) is nft(8) syntax: it loads with `nft -f` and is what `nft list table` prints.
// [Table.Trace] follows one new connection through the rules, as the kernel would.
//
// The package is pure: it knows no netlink, no Kubernetes, no clock and no files, and nothing in it is safe for
// concurrent use.
package nft
