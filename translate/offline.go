// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// NodeTrace is how the table of one node treats a flow.
type NodeTrace struct {
	Node    string
	Steps   []nft.Step
	Verdict nft.Verdict
}

// Trace follows the flow through the tables of the nodes of its pods, the source's first.
func Trace(c *policy.Cluster, f policy.Flow, options Options) ([]NodeTrace, error) {
	var traces []NodeTrace
	for _, s := range nodesOf(c, f, options) {
		steps, v, err := s.Table().Trace(PacketOf(f))
		if err != nil {
			return nil, fmt.Errorf("trace on node %s: %w", s.node.Value(), err)
		}
		traces = append(traces, NodeTrace{Node: s.node.Value(), Steps: steps, Verdict: v})
	}
	return traces, nil
}

// HoldToLimits finds out what is over a limit on the nodes of the pods at the ends of a flow, for [policy.Cluster.Explain].
func HoldToLimits(c *policy.Cluster, f policy.Flow, limits Limits) {
	c.OverLimit = nil
	for _, s := range nodesOf(c, f, Options{Limits: limits}) {
		s.Table()
		c.OverLimit = append(c.OverLimit, s.OverLimit()...)
	}
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

// PacketOf returns the first packet of a flow as the hook sees it that it passes.
func PacketOf(f policy.Flow) nft.Flow {
	p := nft.Flow{Src: f.Src, Dst: f.Dst, Proto: f.Proto, DstPort: f.DstPort, ICMPType: f.ICMPType}
	if f.ToNode {
		p.Hook = nft.Input
	}
	return p
}
