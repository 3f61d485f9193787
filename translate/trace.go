// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// NodeTrace is what the table of a node does with a flow.
type NodeTrace struct {
	Node string
	trace.Trail
	Incomplete bool               // the table is not yet complete, see [State.Incomplete]
	OverLimit  []policy.PodExcess // of the node's pods, if its table was made for this question
}

// Trace follows a flow through the state's current table.
func (s *State) Trace(f policy.Flow) (NodeTrace, error) {
	trail, err := trace.Follow(s.table, frame.PacketOf(f))
	if err != nil {
		return NodeTrace{}, fmt.Errorf("follow the flow through the table of node %s: %w", s.index.Node(), err)
	}
	trail.Steps = slices.DeleteFunc(trail.Steps, func(step trace.Step) bool { // those decide nothing
		return observe.Counts(step.Chain) || observe.Counts(step.Verdict.Chain)
	})
	return NodeTrace{Node: s.index.Node(), Trail: trail, Incomplete: s.Incomplete()}, nil
}
