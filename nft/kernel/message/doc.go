// SPDX-License-Identifier: Apache-2.0

// Package message encodes transactions as nf_tables messages, and decodes the kernel's. Package nflog reads attributes
// by it, too. It has no sockets.
//
// The expressions of rules are encoded by github.com/google/nftables/expr. The messages around them are written here,
// since that library does not support comments on tables and chains, and cannot tell which object of a batch was
// refused. Attributes are read here, since the AttributeDecoder of github.com/mdlayher/netlink copies each
// (github.com/mdlayher/netlink/issues/115), and since google/nftables panics on malformed ones
// (github.com/google/nftables/issues/367).
package message
