// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Peer selects pods: of one namespace, of the namespaces that a selector matches or, with neither, of the whole
// cluster.
type Peer struct {
	Namespace  string
	Namespaces labels.Selector
	Pods       labels.Selector

	text string // what String returns, if it is known
}

// written returns the peer with its text, which costs more to make than all else that is done with the peer of a rule.
func (p Peer) written() Peer {
	p.text = p.String()
	return p
}

// Whole says whether the peer includes every pod of its namespaces.
func (p Peer) Whole() bool { return p.Pods.Empty() }

// Rank is 0 for all namespaces, 1 for others that are whole, and 2 for the rest.
func (p Peer) Rank() int {
	switch {
	case !p.Whole():
		return 2
	case p.Namespaces != nil && p.Namespaces.Empty():
		return 0
	}
	return 1
}

// Broad says whether the peer is all pods of all namespaces except some that it names.
func (p Peer) Broad() bool {
	if !p.Whole() || p.Namespaces == nil {
		return false
	}
	requirements, _ := p.Namespaces.Requirements()
	return !slices.ContainsFunc(requirements, func(r labels.Requirement) bool {
		return r.Operator() != selection.NotIn && r.Operator() != selection.NotEquals &&
			r.Operator() != selection.DoesNotExist
	})
}

// String names the peer in comments, and is equal only for equal peers.
func (p Peer) String() string {
	if p.text != "" {
		return p.text
	}
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
