// SPDX-License-Identifier: Apache-2.0

// Package frame makes what every table has, whatever the policies are: the chains that a packet passes, the maps that
// send it to the isolations of its pods, what no policy can block, how the rest is denied and counted, and the guard.
// It knows the names of all of these, and of isolations' chains, by which logs and counters tell netpold what happened.
// It does not know policies, nor who is isolated and why.
package frame
