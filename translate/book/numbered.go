// SPDX-License-Identifier: Apache-2.0

package book

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Numbers returns the numbers that the named ports of some policies' ingress rules have in pods with these ports. For
// egress, where each peer resolves the name, it is nil.
func (b *Policies) Numbers(d policy.Direction, of []types.NamespacedName,
	ports []policy.NamedPort) map[policy.NamedPort]nft.Ports {
	if d == policy.Egress {
		return nil
	}
	numbers := make(map[policy.NamedPort]nft.Ports)
	for _, name := range of {
		for _, r := range b.Get(name).Rules(d) {
			for _, port := range r.Ports.Named {
				numbers[port] = spec.NumbersOf(ports, port)
			}
		}
	}
	return numbers
}

// Numbered yields the rules of some policies in a direction, each with the index of its policy. For ingress,
// [Policies.Numbers] replace the names of ports.
func (b *Policies) Numbered(d policy.Direction, of []types.NamespacedName,
	numbers map[policy.NamedPort]nft.Ports) iter.Seq2[int, spec.Rule] {
	return func(yield func(int, spec.Rule) bool) {
		for i, name := range of {
			for _, r := range b.Get(name).Rules(d) {
				if d == policy.Ingress {
					r.Ports = numbered(r.Ports, numbers)
				}
				if !yield(i, r) {
					return
				}
			}
		}
	}
}

// numbered returns ports with the names replaced by numbers.
func numbered(ports spec.RulePorts, numbers map[policy.NamedPort]nft.Ports) spec.RulePorts {
	open := []spec.Ports{ports.Open}
	for _, port := range ports.Named {
		open = append(open, spec.Ports{Ranges: numbers[port]})
	}
	return spec.RulePorts{Open: spec.Union(open...)}
}
