// SPDX-License-Identifier: Apache-2.0

package spec

import "k8s.io/apimachinery/pkg/labels"

// Peer selects pods: of one namespace, of the namespaces that a selector matches or, with neither, of the whole
// cluster.
type Peer struct {
	Namespace  string
	Namespaces labels.Selector
	Pods       labels.Selector
}

// Whole says whether the peer is every pod of its namespaces.
func (p Peer) Whole() bool { return p.Pods.Empty() }

// String names the peer in comments and is equal for equal peers and only for those.
func (p Peer) String() string {
	which := "namespace " + p.Namespace
	switch {
	case p.Namespace != "":
	case p.Namespaces == nil:
		which = "the cluster"
	case p.Namespaces.Empty():
		which = "all namespaces"
	default:
		which = "namespaces " + p.Namespaces.String()
	}
	if p.Whole() {
		return "pods of " + which
	}
	return "pods " + p.Pods.String() + " of " + which
}
