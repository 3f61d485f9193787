// SPDX-License-Identifier: Apache-2.0

// Package frame makes what every table has, whatever the policies are: the chains that a packet comes through, the maps
// that send it to the isolations of its pods, what no policy can block, how what is not allowed is denied and counted,
// and the guard. It knows the names of all of these, and of the chains of isolations, since logs and counters tell
// netpold by these names what happened. It does not know policies, nor who is isolated why.
package frame
