// SPDX-License-Identifier: Apache-2.0

// Package book has the policies of a cluster as they are written, by name: NetworkPolicies with the modes of its
// namespaces, and ClusterNetworkPolicies with what they see of its nodes. It says which of them select pods, which are
// only audited, and what is wrong with them. What follows from them is the matter of package translate.
package book
