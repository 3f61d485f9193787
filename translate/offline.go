// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/frame"
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

// Trace makes the tables of the nodes of a flow's pods, and follows the flow through them, the source's first.
func Trace(c *policy.Cluster, f policy.Flow, options Options) ([]NodeTrace, error) {
	var traces []NodeTrace
	for _, s := range nodesOf(c, f, options) {
		s.Complete()
		trace, err := s.Trace(f)
		if err != nil {
			return nil, err
		}
		trace.OverLimit = s.OverLimit()
		traces = append(traces, trace)
	}
	return traces, nil
}

// nodesOf returns the states of the nodes of the pods that claim an address of a flow, the source's first.
func nodesOf(c *policy.Cluster, f policy.Flow, options Options) []*State {
	var states []*State
	seen := make(map[string]bool)
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		for _, p := range c.Pods {
			if p.HostNetwork || seen[p.Node] || !slices.Contains(p.IPs, a) {
				continue
			}
			seen[p.Node] = true
			s := New(p.Node, options)
			s.Add(c) // its errors are the caller's to have seen
			states = append(states, s)
		}
	}
	return states
}

// WouldDeny says in which directions audited policies would deny a packet that goes a way through a table.
func WouldDeny(t trace.Trail) (would [2]bool) {
	for _, step := range t.Steps {
		for _, d := range policy.Directions() {
			would[d] = would[d] || frame.WouldDeny(step.Verdict, d)
		}
	}
	return would
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
