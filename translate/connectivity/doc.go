// SPDX-License-Identifier: Apache-2.0

// Package connectivity answers for a whole cluster what [policy.Cluster.Explain] answers for one flow: who may talk to
// whom, on which ports, and to and from which outside networks. [New] makes a [Matrix] of workloads; [Compare] compares
// two.
//
//	pods ──► identity ──► class                  rule ──► passage: ports from some classes to others
//	         namespace,   what every policy
//	         labels,      treats alike           network ──► opening: the ports of each range of outside addresses
//	         named ports
//
// Sets of classes are bitsets. The row of a class, that is what is open from it to each other, is computed on demand:
// the passages from it are applied in the order of the tiers, for each direction, and the ports of both are
// intersected. Nothing is kept for pairs of classes, as policies may treat every pod differently. This shares no code
// with how the oracle decides a flow or how package translate compiles; only the text of a policy ([policy.Rules]) is
// read by the oracle's code. Tests compare every pair of pods, and every edge of a network and of a port range, with
// Explain.
//
// The package is pure: no files, no clock, no log.
package connectivity
