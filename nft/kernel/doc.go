// SPDX-License-Identifier: Apache-2.0

// Package kernel commits the transactions of package nft to nf_tables over netlink, and reads back what the kernel
// counted.
//
// One [nft.Transaction] is one netlink datagram and one commit: the kernel takes all of it or nothing. No table is read
// from the kernel before a write. An error names the object that the kernel refused, and is
// an [nft.Refused] if a change of the transaction would help.
//
// Package message has the messages. Replies are received by github.com/mdlayher/netlink; a transaction's answers and
// notifications are read here, since that library cannot read without blocking.
//
// It needs only CAP_NET_ADMIN, and the kernel features that [Open] tries out: docs/kernels.md has the Linux versions.
package kernel
