// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// Explanation is the answer of `netpold explain` about flows, one for each family that both ends have. Its JSON form is
// what the endpoint /explain answers.
type Explanation struct {
	Allowed bool       `json:"allowed"` // all of them
	Flows   []FlowText `json:"flows"`
}

// FlowText is the answer about one flow.
type FlowText struct {
	Allowed bool       `json:"allowed"`
	Text    string     `json:"text"`            // in lines, for an operator
	Nodes   []NodeText `json:"nodes,omitempty"` // whose rules were looked at
}

// NodeText is what the table of a node does with a flow.
type NodeText struct {
	Node    string     `json:"node"`
	Rules   []RuleText `json:"rules"` // that the flow matches
	Verdict string     `json:"verdict"`

	// Differs is what the kernel holds else than it should, besides Rules, of what the flow comes through, if that was
	// asked for.
	Differs []string `json:"differs,omitempty"`
}

// RuleText is a rule that a flow matches.
type RuleText struct {
	Chain   string `json:"chain"`
	Rule    string `json:"rule"`
	Element string `json:"element,omitempty"` // that the rule's lookup finds
	Kernel  string `json:"kernel,omitempty"`  // what the kernel holds of it, if that was asked for
	Missing bool   `json:"missing,omitempty"` // the kernel holds something else, as Kernel says
}

// QuestionError says that a question cannot be answered as it is put: the fault is the asker's.
type QuestionError struct{ Err error }

// Error says what is wrong with the question.
func (e QuestionError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e QuestionError) Unwrap() error { return e.Err }

// ExplainFlow answers about one flow from the policies' own text, and holds what the tables of nodes do with it against
// that. That the two disagree is an error, and a bug.
func ExplainFlow(c *policy.Cluster, f policy.Flow, traces []translate.NodeTrace) (FlowText, error) {
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
			allowed = allowed && (d.Allowed || !d.Unknown && d.Pod.Node != t.Node) // who else is denied is a pod
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
			text.Text += fmt.Sprintf("  changes are in progress on node %s; its rules are those of before\n", t.Node)
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

// Add takes the answer about another flow into e.
func (e *Explanation) Add(f FlowText) {
	e.Allowed = f.Allowed && (e.Allowed || len(e.Flows) == 0)
	e.Flows = append(e.Flows, f)
}

// Explain answers who decides about the flows from src to dst, in the form of `netpold explain`, by the current
// objects. With verify, it also reads from the kernel what decides. A [QuestionError] says what is wrong with src or
// dst.
//
//nolint:revive // verify is a fact of the question
func (l *Loop) Explain(ctx context.Context, src, dst string, verify bool) (Explanation, error) {
	own, err := l.ownAddresses()
	if err != nil {
		return Explanation{}, err
	}
	flows, err := l.parseFlows(src, dst, own)
	if err != nil {
		return Explanation{}, err
	}
	var e Explanation
	for _, f := range flows {
		excerpt, trace, err := l.trace(f)
		if err != nil {
			return Explanation{}, err
		}
		text, err := ExplainFlow(excerpt, f, []translate.NodeTrace{trace})
		if err != nil {
			return Explanation{}, err
		}
		if verify {
			if err := l.verify(ctx, trace.Trail, &text.Nodes[0]); err != nil {
				return Explanation{}, err
			}
		}
		e.Add(text)
	}
	return e, nil
}

// parseFlows reads a question.
func (l *Loop) parseFlows(src, dst string, own []netip.Addr) ([]policy.Flow, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.status.Synced {
		return nil, fmt.Errorf("still loading pods, namespaces and policies from %s", l.config.Source)
	}
	flows, err := l.state.ParseFlows(src, dst, own)
	if err != nil {
		return nil, QuestionError{err}
	}
	return flows, nil
}

// trace returns what decides about a flow, and what the node's table does with it.
func (l *Loop) trace(f policy.Flow) (*policy.Cluster, translate.NodeTrace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	trace, err := l.state.Trace(f)
	return l.state.Excerpt(f), trace, err
}

// ownAddresses returns the addresses of this node.
func (l *Loop) ownAddresses() ([]netip.Addr, error) {
	if l.config.Addresses == nil {
		return nil, nil
	}
	own, err := l.config.Addresses()
	if err != nil {
		return nil, fmt.Errorf("read the node's addresses: %w", err)
	}
	return own, nil
}
