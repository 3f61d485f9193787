// SPDX-License-Identifier: Apache-2.0

// Package explain makes the answers of `netpold explain`: who decides a flow by the text of the policies, what the
// nodes' tables do with it, and whether the kernel holds the same.
package explain

import (
	"fmt"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// Answer is the answer of `netpold explain` about flows, one for each family that both ends have. Its JSON form is that
// of the endpoint /explain.
type Answer struct {
	Allowed bool       `json:"allowed"` // all of them
	Flows   []FlowText `json:"flows"`
}

// FlowText is the answer about one flow.
type FlowText struct {
	Allowed bool       `json:"allowed"`
	Text    string     `json:"text"`            // lines for an operator
	Nodes   []NodeText `json:"nodes,omitempty"` // whose rules were traced
}

// NodeText is what the table of a node does with a flow.
type NodeText struct {
	Node    string     `json:"node"`
	Rules   []RuleText `json:"rules"` // that the flow matches
	Verdict string     `json:"verdict"`

	// Differs is where the kernel differs on the flow's way, apart from Rules; only if asked for.
	Differs []string `json:"differs,omitempty"`
}

// RuleText is a rule that a flow matches.
type RuleText struct {
	Chain   string `json:"chain"`
	Rule    string `json:"rule"`
	Element string `json:"element,omitempty"` // found by the rule's lookup
	Kernel  string `json:"kernel,omitempty"`  // what the kernel holds; only if asked for
	Missing bool   `json:"missing,omitempty"` // the kernel holds something else, as Kernel says
}

// Flow answers about one flow from the text of the policies, and checks the nodes' tables against that. If they
// disagree, it returns an error: that is a bug.
func Flow(c *policy.Cluster, f policy.Flow, traces []translate.NodeTrace) (FlowText, error) {
	limited := *c
	for _, t := range traces {
		limited.OverLimit = append(slices.Clip(limited.OverLimit), t.OverLimit...)
	}
	answer := limited.Explain(f)
	text := FlowText{Allowed: answer.Allowed, Text: limited.Describe(answer)}
	directions := []policy.Decision{answer.Egress, answer.Ingress}
	for _, t := range traces {
		allowed := true
		for _, d := range directions {
			allowed = allowed && (d.Allowed || !d.Unknown && d.Pod.Node != t.Node) // else: a pod is denied
			policed := d.Isolated || d.Admin != nil || d.Baseline != nil
			if policed && !slices.ContainsFunc(traces, func(t translate.NodeTrace) bool {
				return t.Node == d.Pod.Node
			}) {
				text.Text += fmt.Sprintf("  %s is enforced on node %s, not here on %s\n", d.Direction,
					d.Pod.Node, t.Node)
			}
		}
		switch agree := allowed == (t.Verdict.Kind == nft.Accept); {
		case !agree && !t.Incomplete:
			return FlowText{},
				fmt.Errorf("the rules and the policies disagree about %s: this is a bug in netpold, please report it",
					f)
		case !agree:
			text.Text += fmt.Sprintf("  changes are in progress on node %s; these rules do not have them yet\n", t.Node)
		}
		node := NodeText{Node: t.Node, Rules: []RuleText{}, Verdict: t.Verdict.String()}
		for _, step := range t.Steps {
			node.Rules = append(node.Rules, RuleText{Chain: step.Chain, Rule: step.Rule.String(),
				Element: step.Element()})
		}
		text.Nodes = append(text.Nodes, node)
	}
	return text, nil
}

// Add adds the answer about another flow.
func (a *Answer) Add(f FlowText) {
	a.Allowed = f.Allowed && (a.Allowed || len(a.Flows) == 0)
	a.Flows = append(a.Flows, f)
}
