// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/spec"
)

// maxInline is how many port ranges a rule has inline: the kernel takes them together with the rule, and needs n² time
// for n single ports of one protocol. More become sets of their own, which are made in portions before a rule leads to
// them, and which all isolations share.
const maxInline = 256

// Inline says whether a rule has the ports inline.
func Inline(p spec.Ports) bool { return len(p.Ranges) <= maxInline }

// maxExact is how many ports of a peer become elements of their own. With more, the peer's address jumps to a chain
// with the port set, so that a policy with 5,000 ports does not make 5,000 elements for each of its peers.
const maxExact = 8

// Exact says whether the set is a few single ports.
func Exact(p spec.Ports) bool {
	return !p.Every && len(p.Ranges) <= maxExact &&
		!slices.ContainsFunc(p.Ranges, func(r nft.PortRange) bool { return r.First != r.Last })
}

// Opening is what is open to a range of addresses: ports and, if blocks are nested, what is open around it as well.
type Opening struct {
	Ports spec.Ports
	Chain string // that accepts it; "" if every port is open, where none is needed

	kind  frame.Kind
	outer *Opening // nil: nothing more
}

// Of returns the opening of ports by isolations of a kind.
func Of(k frame.Kind, ports spec.Ports) Opening { return inside(k, ports, nil) }

// inside returns the opening of ports by isolations of a kind, inside of outer, which may be nil.
func inside(k frame.Kind, ports spec.Ports, outer *Opening) Opening {
	o := Opening{kind: k, Ports: ports}
	if ports.Every { // nothing adds to it
		return o
	}
	fields := []string{ports.Key()}
	o.outer = outer
	if outer != nil {
		fields = append(fields, outer.Chain)
	}
	o.Chain = k.String() + "-ports-" + nft.Hash(fields...)
	return o
}

// equal says whether two openings have the same form.
func (o Opening) equal(p Opening) bool { return o.Chain == p.Chain && o.Ports.Every == p.Ports.Every }
