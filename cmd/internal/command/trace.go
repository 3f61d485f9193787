// SPDX-License-Identifier: Apache-2.0

package command

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// traces builds the tables of the nodes of a flow's pods, and follows the flow through them, the source's first.
func traces(c *policy.Cluster, f policy.Flow, options translate.Options) ([]translate.NodeTrace, error) {
	var all []translate.NodeTrace
	for _, s := range nodesOf(c, f, options) {
		s.Complete()
		trace, err := s.Trace(f)
		if err != nil {
			return nil, err
		}
		trace.OverLimit = s.OverLimit()
		all = append(all, trace)
	}
	return all, nil
}

// nodesOf returns the states of the nodes whose pods claim an address of a flow, the source's first.
func nodesOf(c *policy.Cluster, f policy.Flow, options translate.Options) []*translate.State {
	var states []*translate.State
	seen := make(map[string]bool)
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		for _, p := range c.Pods {
			if p.HostNetwork || seen[p.Node] || !slices.Contains(p.IPs, a) {
				continue
			}
			seen[p.Node] = true
			s := translate.New(p.Node, options)
			s.Add(c) // the caller has seen the errors
			states = append(states, s)
		}
	}
	return states
}
