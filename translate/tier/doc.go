// SPDX-License-Identifier: Apache-2.0

// Package tier compiles what the ClusterNetworkPolicies of a tier say about one kind of pod in one direction: a list of
// rules, of which the first match decides.
//
// The order is resolved here, and not by the kernel. All addresses that the same rules match are a [Class]: a chain
// that looks the port up once, among those that each have the verdict of their first rule: single ports in a hash,
// ranges among disjoint intervals, which take the kernel several times as long. A pod's address is in a map; of any
// other one it is looked up among disjoint intervals, too, in the networks of which rules it is:
//
//	pod → list chain → class of the peer's address  → port → accept | rule that denies | return
//	      jump         vmap, hash                     vmap, hash or intervals
//	                 → class of its network         → port → …
//	                   vmap, intervals
//
// So a new connection costs the same whether a list has one rule or ten thousand. Undecided packets return to the
// caller of the list; in tier Baseline, which comes last, they are allowed.
//
// Chains and maps are named by their content, and never change: another decision is another chain. Lists share equal
// ones. The package is pure, and knows no pods.
package tier
