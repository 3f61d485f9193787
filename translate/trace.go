// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// NodeTrace is what the table of a node does with a flow.
type NodeTrace struct {
	Node string
	trace.Trail
	Incomplete bool               // the table is not yet what the objects imply: see [State.Incomplete]
	OverLimit  []policy.PodExcess // of the pods of the node, if its table was made for the question
}

// Trace follows a flow through the state's table as it is.
func (s *State) Trace(f policy.Flow) (NodeTrace, error) {
	trail, err := trace.Follow(s.table, PacketOf(f))
	if err != nil {
		return NodeTrace{}, fmt.Errorf("follow the flow through the table of node %s: %w", s.index.Node(), err)
	}
	trail.Steps = slices.DeleteFunc(trail.Steps, func(step trace.Step) bool { // which decide nothing
		return observe.Counts(step.Chain) || observe.Counts(step.Verdict.Chain)
	})
	return NodeTrace{Node: s.index.Node(), Trail: trail, Incomplete: s.Incomplete()}, nil
}

// PacketOf returns the first packet of a flow as the hook sees it that it passes.
func PacketOf(f policy.Flow) trace.Packet {
	p := trace.Packet{
		Src: f.Src, Dst: f.Dst, Proto: f.Proto, DstPort: f.DstPort, ICMPType: f.ICMPType,
		FromNode: f.FromNode, In: f.In, Out: f.Out, DNAT: f.Service,
	}
	if f.ToNode {
		p.Hook = nft.Input
	}
	return p
}
