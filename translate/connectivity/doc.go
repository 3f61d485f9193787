// SPDX-License-Identifier: Apache-2.0

// Package connectivity answers for a whole cluster what [policy.Cluster.Explain] answers for one flow: who may talk to
// whom, on which ports, and to and from which outside networks. [New] makes a [Matrix] of workloads, [Compare] tells
// two apart.
//
//	pods ──► identity ──► class                  rule ──► passage: ports from some classes to others
//	         namespace,   what every policy
//	         labels,      treats alike           network ──► opening: the ports of each range of outside addresses
//	         named ports
//
// Sets of classes are bits. The row of a class, what is open from it to each, is worked out when it is asked for: the
// passages from it are taken in the order of the tiers, of either direction, and the ports of both are intersected.
// Nothing is kept for pairs of classes, as policies may treat each pod in a way of its own. Nothing of how the oracle
// decides about a flow, or of how package translate compiles, is used; only what a policy's text says ([policy.Rules])
// is read by the oracle's own code. Tests hold every pair of pods and every border of a network and of a port range
// against Explain.
//
// The package is pure: no files, no clock, no log.
package connectivity
