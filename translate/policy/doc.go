// SPDX-License-Identifier: Apache-2.0

// Package policy holds a cluster as NetworkPolicy sees it, pods, namespaces, policies and flows, and answers from the
// policies' own text whether a flow is allowed, and why: [Cluster.Explain].
//
// It is the oracle that the compiled rules are held against, so it must not share with them what decides: it imports
// nothing of netpold, and has its own reading of selectors, ports, blocks and policy types. Package translate imports
// it for the plain types, never the reverse. Nothing in it is fast, has an index or remembers anything: it walks all
// that it is given, each time.
package policy
