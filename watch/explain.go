// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// Explanation is what a daemon says of flows, one for each family that both ends have. Its JSON form is what the
// endpoint /explain answers.
type Explanation struct {
	Node    string     `json:"node"` // whose rules are shown
	Allowed bool       `json:"allowed"`
	Flows   []FlowText `json:"flows"`
}

// FlowText is the answer about one flow.
type FlowText struct {
	Allowed bool       `json:"allowed"`
	Text    string     `json:"text"` // in lines, for an operator
	Rules   []RuleText `json:"rules"`
	Verdict string     `json:"verdict"` // of the rules of this node

	// Differs is what the kernel holds else than it should, besides Rules, of what the flow comes through, if that was
	// asked for.
	Differs []string `json:"differs,omitempty"`
}

// RuleText is a rule of this node's table that a flow matches.
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

// flowAnswer is what is known of a flow, without the loop's lock.
type flowAnswer struct {
	flow    policy.Flow
	cluster *policy.Cluster
	trail   nft.Trail
}

// Explain answers who decides about the flows from src to dst, in the form of `netpold explain`, by the objects of now.
// With verify, it also reads from the kernel what decides. A [QuestionError] says what is wrong with src or dst.
func (l *Loop) Explain(ctx context.Context, src, dst string, verify bool) (Explanation, error) { //nolint:revive // verify is a fact of the question
	answers, err := l.answer(src, dst)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Node: l.Node, Allowed: true}
	for _, a := range answers {
		explanation := a.cluster.Explain(a.flow)
		if err := l.agree(explanation, a); err != nil {
			return Explanation{}, err
		}
		text := FlowText{
			Allowed: explanation.Allowed, Text: a.cluster.Describe(explanation) + l.elsewhere(explanation),
			Rules: []RuleText{}, Verdict: a.trail.Verdict.String(),
		}
		for _, step := range a.trail.Steps {
			rule := RuleText{Chain: step.Chain, Rule: step.Rule.String(), Element: step.Element()}
			if verify {
				if err := l.verify(ctx, step, &rule); err != nil {
					return Explanation{}, err
				}
			}
			text.Rules = append(text.Rules, rule)
		}
		if verify {
			if text.Differs, err = l.verifyRest(ctx, a.trail); err != nil {
				return Explanation{}, err
			}
		}
		e.Flows = append(e.Flows, text)
		e.Allowed = e.Allowed && explanation.Allowed
	}
	return e, nil
}

// answer looks the flows up in the state.
func (l *Loop) answer(src, dst string) ([]flowAnswer, error) {
	own, err := l.ownAddresses()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.status.Synced {
		return nil, fmt.Errorf("not all pods, namespaces and policies are known yet; %s is asked", l.Source)
	}
	flows, err := l.State.ParseFlows(src, dst, own)
	if err != nil {
		return nil, QuestionError{err}
	}
	table := l.State.Table()
	var answers []flowAnswer
	for _, f := range flows {
		trail, err := table.Follow(translate.PacketOf(f))
		if err != nil {
			return nil, fmt.Errorf("follow the flow through the table: %w", err)
		}
		answers = append(answers, flowAnswer{f, l.State.Excerpt(f), trail})
	}
	return answers, nil
}

// ownAddresses returns the addresses of this node.
func (l *Loop) ownAddresses() ([]netip.Addr, error) {
	if l.Addresses == nil {
		return nil, nil
	}
	own, err := l.Addresses()
	if err != nil {
		return nil, fmt.Errorf("read the node's addresses: %w", err)
	}
	return own, nil
}

// agree holds the verdict of this node's rules against the policies of its pods.
func (l *Loop) agree(e policy.Answer, a flowAnswer) error {
	allowed := true
	for _, d := range []policy.Decision{e.Egress, e.Ingress} {
		if d.Pod != nil && d.Pod.Node == l.Node {
			allowed = allowed && d.Allowed
		}
	}
	if allowed != (a.trail.Verdict.Kind == nft.Accept) {
		return fmt.Errorf("the rules and the policies disagree about %s: this is a bug in netpold, please report it", a.flow)
	}
	return nil
}

// elsewhere says which direction other nodes enforce.
func (l *Loop) elsewhere(e policy.Answer) string {
	var b strings.Builder
	for _, d := range []policy.Decision{e.Egress, e.Ingress} {
		if d.Pod != nil && d.Isolated && d.Pod.Node != l.Node {
			fmt.Fprintf(&b, "  %s is enforced on node %s, not here on %s\n", d.Direction, d.Pod.Node, l.Node)
		}
	}
	return b.String()
}
