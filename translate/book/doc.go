// SPDX-License-Identifier: Apache-2.0

// Package book has the policies of a cluster as written, by name: NetworkPolicies with the modes of its namespaces, and
// ClusterNetworkPolicies with the nodes that they name. It says which of them select pods, which are only audited, and
// what is wrong with them. Package translate works out the consequences.
package book
