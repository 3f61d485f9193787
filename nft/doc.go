// SPDX-License-Identifier: Apache-2.0

// Package nft models one nftables table of the inet family: what should exist, never how to get there.
//
// A [Table] holds chains, rules, sets and maps. Callers edit it freely; it remembers where the kernel differs, and
// [Table.Take] returns that difference as one [Transaction], which package nft/kernel commits as one netlink batch.
// The text form of a table ([Table.String]) is nft(8) syntax: it loads with `nft -f` and is what `nft list table`
// prints. Package nft/trace follows a new connection through the rules, as the kernel would.
//
// # Retired
//
// A packet in flight while the kernel commits follows the rules of the generation that it began with, but looks up
// elements in the current one. By the old rules it may reach a map that is empty in the new generation, and be denied
// although it was allowed before and is after. So no transaction deletes what packets in flight may still need. It
// removes what leads there, and the rest is retired:
//
//	                               new chains, sets ┐         packets under way leave
//	wanted   A: sets, chain        B: sets, chain   │
//	kernel   pods → A              pods → A, B      pods → B, A retired ········ Reap, pods → B
//	                               first stage      last stage                   a transaction of its own
//
// Retired are sets and chains that are no longer wanted, and elements of sets that stay if the transaction may replace
// what they allowed: if it changes the rules that look them up, or the element that leads there, or adds the same
// address to another set of the chain. Other elements are deleted at once, so that a plain revocation takes effect at
// once. A key that is to jump elsewhere while the transaction may replace what either jump allows leads meanwhile to a
// bridge, a chain that jumps to both, from the first stage until the packets have left. Elements that lead on by goto
// are not retired, see package nft/stages, and intervals must not overlap: changing those together with rules that
// replace them may deny a packet in flight, so use another set instead.
//
// [Table.Retired] says whether anything is retired. After [Table.Reap], which says that the packets have left, the next
// [Table.Take] deletes it. What is wanted again before that is revived with its content; no packet reaches it until the
// first stage of the transaction has brought it up to date. Replacing the whole table leaves nothing to retire.
//
// # Rooms
//
//	nft/trace, nft/stages    pure: what a packet meets in a table; how a transaction is split
//	     |
//	     v
//	nft  <----  nft/kernel, nft/nflog    alone touch netlink: transactions and reads; logged packets
//	|  ^             |
//	|  +------  nft/kernel/message       pure: the messages of nf_tables, and netlink attributes
//	v
//	nft/delta                            pure: a map that is wanted, and how the kernel's differs from it
//
// The package is pure: it knows no netlink, no Kubernetes, no clock and no files, and nothing in it is safe for
// concurrent use.
package nft
