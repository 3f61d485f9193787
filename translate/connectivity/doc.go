// SPDX-License-Identifier: Apache-2.0

// Package connectivity answers for a whole cluster what [policy.Cluster.Explain] answers for one flow: who may talk to
// whom, on which ports, and to and from which outside networks. [New] makes a [Matrix] of workloads, [Compare] tells
// two apart.
//
//	pods ──► identity ──► class                 isolation ──► grant: the ports that it opens to each class,
//	         namespace,   what every policy     one distinct  and to each range of outside addresses
//	         labels,      treats alike          set of
//	         named ports                        policies
//
// What pods of one class may open to pods of another is the intersection of two grants, that of the source's egress
// isolation and that of the destination's ingress isolation; either is everything where no policy isolates. So the work
// is proportional to what the policies tell apart and not to pairs of pods. Nothing of how the oracle decides about a
// flow, or of how package translate compiles, is used; only what a policy's text says ([policy.Rules]) is read by the
// oracle's own code. Tests hold every pair of pods and every border of a network and of a port range against Explain.
//
// The package is pure: no files, no clock, no log.
package connectivity
