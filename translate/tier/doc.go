// SPDX-License-Identifier: Apache-2.0

// Package tier compiles what the ClusterNetworkPolicies of a tier say of one kind of pod in one direction: a list of
// rules, of which the first one that matches decides.
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
// So a new connection costs the same whether a list has one rule or ten thousand. What does not decide goes back to
// where the list was jumped to; in tier Baseline, which is asked last, it is allowed.
//
// Chains and maps are named by what is in them, and never change: what is to be decided otherwise is another chain.
// Lists share those that are equal. The package is pure, and knows no pods.
package tier
