// SPDX-License-Identifier: Apache-2.0

// Package book has the NetworkPolicies of a cluster as they are written, by name, and the modes of its namespaces:
// which of them select pods, which are only audited, and what is wrong with them. What follows from them is the matter
// of package translate.
package book
