// SPDX-License-Identifier: Apache-2.0

// Package prober asks the kernel for the verdict of its ruleset on a packet, some hundred thousand times a second.
//
// All pods, and everything outside the node, are one pair of TUN devices in a network namespace of the prober's own. A
// packet written to the first has come from a pod; the kernel routes it, passes it through the forward hook, and, if
// the ruleset accepts it, it can be read from the second:
//
//	Send -> pods-in -> prerouting -> routing -> forward -> postrouting -> pods-out -> Send
//
// There are two devices because a packet that leaves where it came in makes the kernel send redirects.
//
// A drop is seen without waiting for it. Each batch of packets is followed by a sentinel, an echo request to the node
// itself, which never passes the forward hook: whatever has not come out when the sentinel's reply does, was dropped.
// The kernel carries a packet from device to device within the write, and the thread stays on one CPU, so nothing
// overtakes.
package prober
