// SPDX-License-Identifier: Apache-2.0

// Package policy has a cluster as NetworkPolicy sees it (pods, namespaces, policies and flows), and answers from the
// text of the policies whether a flow is allowed, and why: [Cluster.Explain].
//
// It is the oracle against which the compiled rules are checked, so it must not share deciding code with them: it
// imports nothing of netpold, and has its own reading of selectors, ports, blocks and policy types. Package translate
// imports it for the plain types, never the reverse. It is deliberately simple and slow: no index, no memory, just a
// walk over everything each time.
package policy
