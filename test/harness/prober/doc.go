// SPDX-License-Identifier: Apache-2.0

// Package prober asks the kernel for the verdict of its ruleset on a packet, some hundred thousand times a second.
//
// A pair of TUN devices in the prober's own network namespace stands for all pods and everything outside the node. A
// packet written to the first device comes from a pod; the kernel routes it through the forward hook, and, if the
// ruleset accepts it, it can be read from the second:
//
//	Send -> pods-in -> prerouting -> routing -> forward -> postrouting -> pods-out -> Send
//
// There are two devices because the kernel sends redirects for packets that leave where they came in.
//
// Drops are seen without waiting. Each batch of packets is followed by a sentinel, an echo request to the node itself,
// which never passes the forward hook: whatever has not come out before the sentinel's reply was dropped. The kernel
// carries a packet from device to device within the write, and the thread stays on one CPU, so nothing overtakes.
package prober
