// SPDX-License-Identifier: Apache-2.0

// Package nflog reads the packets that rules log to a group: `log group 86 prefix "…"`. The kernel hands the packets of
// a group to one socket, in datagrams of up to 100 packets, after at most 100 ms. Logging never delays a packet: what
// the reader is too slow for is lost and counted, see [Stats].
//
// A packet is an attacker's bytes. A [Packet] has what could be decoded; the rest is zero.
//
// Datagrams are received by github.com/mdlayher/netlink; package message reads the attributes.
//
// It needs CAP_NET_ADMIN and a kernel with CONFIG_NETFILTER_NETLINK_LOG.
package nflog
