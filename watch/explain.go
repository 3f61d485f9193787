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
	"github.com/netpold/netpold/watch/explain"
)

// QuestionError is the fault of whoever asked: the question has no answer as it stands.
type QuestionError struct{ Err error }

// Error says what is wrong with the question.
func (e QuestionError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e QuestionError) Unwrap() error { return e.Err }

// Explain answers who decides the flows from src to dst, by the current objects, as `netpold explain` prints it. With
// verify, it also reads the deciding rules from the kernel. A [QuestionError] says what is wrong with src or dst.
//
//nolint:revive // verify is a fact of the question
func (l *Loop) Explain(ctx context.Context, src, dst string, verify bool) (explain.Answer, error) {
	own, err := l.ownAddresses()
	if err != nil {
		return explain.Answer{}, err
	}
	flows, err := l.parseFlows(src, dst, own)
	if err != nil {
		return explain.Answer{}, err
	}
	var a explain.Answer
	for _, f := range flows {
		excerpt, trace, err := l.trace(f)
		if err != nil {
			return explain.Answer{}, err
		}
		text, err := explain.Flow(excerpt, f, []translate.NodeTrace{trace})
		if err != nil {
			return explain.Answer{}, err
		}
		if verify {
			kernel := explain.Kernel{Reads: l.config.Reads, Want: l.rulesOf}
			if err := kernel.Verify(ctx, trace.Trail, &text.Nodes[0]); err != nil {
				return explain.Answer{}, err
			}
		}
		a.Add(text)
	}
	return a, nil
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

// trace returns the objects that decide a flow, and what the node's table does with it.
func (l *Loop) trace(f policy.Flow) (*policy.Cluster, translate.NodeTrace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	trace, err := l.state.Trace(f)
	return l.state.Excerpt(f), trace, err
}

// rulesOf returns the rules that the table has in a chain.
func (l *Loop) rulesOf(chain string) []nft.Rule {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table == nil || l.table.Chain(chain) == nil {
		return nil
	}
	return slices.Clone(l.table.Chain(chain).Rules)
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
