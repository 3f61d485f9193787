// SPDX-License-Identifier: Apache-2.0

// Package kernel commits the transactions of package nft to nf_tables over netlink, and reads back what the kernel
// counted.
//
// One [nft.Transaction] is one netlink datagram and one commit: the kernel takes all of it or nothing. No table is read
// from the kernel before a write. An error names the object that the kernel refused, see [Error].
//
// The expressions of rules are encoded by github.com/google/nftables/expr. The messages around them are written here,
// since that library has no comments on tables and chains and cannot tell which object of a batch was refused. Replies
// are received by github.com/mdlayher/netlink; attributes are read here, since its AttributeDecoder copies each
// (github.com/mdlayher/netlink/issues/115). A transaction's answers and notifications are read here, too: that library
// cannot read without waiting.
//
// It needs CAP_NET_ADMIN, nothing else, and what [Open] checks by trying: docs/kernels.md has the Linux versions.
package kernel
