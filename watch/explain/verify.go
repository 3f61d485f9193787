// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/frame"
)

// Kernel is what the kernel holds, and what it should hold.
type Kernel struct {
	Reads
	Want func(chain string) []nft.Rule // the table's rules; none for a chain that it lacks
}

// Reads reads the table from the kernel.
type Reads interface {
	// Element returns the element that a lookup of a key in a set finds; fs.ErrNotExist if none.
	Element(ctx context.Context, table string, s *nft.Set, k nft.Key) (nft.Counted, error)
	// Rules returns the rules of a chain in order, each compared with want's rule at its place.
	Rules(ctx context.Context, table string, want *nft.Chain) ([]nft.HeldRule, error)
}

// Verify reads from the kernel what a flow passes: that lookups which should find nothing do, the elements that others
// find, and the rules of the chains. Its cost does not depend on the size of the sets.
func (k Kernel) Verify(ctx context.Context, trail trace.Trail, node *NodeText) error {
	for i, step := range trail.Steps {
		if err := k.verifyStep(ctx, step, &node.Rules[i]); err != nil {
			return err
		}
	}
	var err error
	node.Differs, err = k.verifyRest(ctx, trail)
	return err
}

// verifyStep is verify for a rule that the flow matches, and the lookups before it.
func (k Kernel) verifyStep(ctx context.Context, step trace.Step, rule *RuleText) error {
	difference, err := k.verifyMissed(ctx, step.Missed)
	if step.Set != nil && difference == "" && err == nil {
		difference, err = k.verifyElement(ctx, step.Set, step.Found)
		rule.Kernel = step.Set.Name + " has the element, "
	}
	var held []nft.HeldRule
	if difference == "" && err == nil {
		difference, held, err = k.verifyChain(ctx, step.Chain)
	}
	switch {
	case err != nil:
		return err
	case difference == "" && step.Position >= len(held): // the state has changed since the trace
		difference = "chain " + step.Chain + " has changed meanwhile"
		fallthrough
	case difference != "":
		rule.Kernel, rule.Missing = difference, true
	default:
		rule.Kernel += fmt.Sprintf("the rule has handle %d", held[step.Position].Handle)
	}
	return nil
}

// verifyRest returns the differences where a flow passes without matching a rule: whole chains, and lookups after the
// last matching rule.
func (k Kernel) verifyRest(ctx context.Context, trail trace.Trail) ([]string, error) {
	var differences []string
	missed, err := k.verifyMissed(ctx, trail.Missed)
	if missed != "" {
		differences = append(differences, missed)
	}
	seen := make(map[string]bool)
	for _, step := range trail.Steps {
		seen[step.Chain] = true
	}
	for _, chain := range trail.Chains {
		if seen[chain] || err != nil {
			continue
		}
		seen[chain] = true
		var difference string
		if difference, _, err = k.verifyChain(ctx, chain); difference != "" {
			differences = append(differences, difference)
		}
	}
	return differences, err
}

// verifyMissed says which of the lookups that should find nothing finds something.
func (k Kernel) verifyMissed(ctx context.Context, missed []trace.Miss) (string, error) {
	for _, miss := range missed {
		switch held, err := k.Element(ctx, frame.TableName, miss.Set, miss.Key); {
		case err == nil:
			const format = "%s has an element for this flow that should not be there: { %s }"
			return fmt.Sprintf(format, miss.Set.Name, held.Text(miss.Set.Type)), nil
		case !errors.Is(err, fs.ErrNotExist): // a missing set finds nothing either
			return "", err
		}
	}
	return "", nil
}

// verifyElement says what a lookup finds instead of an element.
func (k Kernel) verifyElement(ctx context.Context, set *nft.Set, want nft.Element) (string, error) {
	switch held, err := k.Element(ctx, frame.TableName, set, want.Key); {
	case errors.Is(err, fs.ErrNotExist):
		return set.Name + " does not have the element", nil
	case err != nil:
		return "", err
	case held.Key != want.Key || held.Verdict != want.Verdict:
		return fmt.Sprintf("%s has { %s } instead of the element", set.Name, held.Text(set.Type)), nil
	}
	return "", nil
}

// verifyChain says how a chain's rules differ, and returns them.
func (k Kernel) verifyChain(ctx context.Context, chain string) (string, []nft.HeldRule, error) {
	want := nft.Chain{Name: chain, Rules: k.Want(chain)}
	held, err := k.Rules(ctx, frame.TableName, &want)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	if len(held) != len(want.Rules) {
		return fmt.Sprintf("chain %s has %d rules, not %d", chain, len(held), len(want.Rules)), nil, nil
	}
	for i, h := range held {
		if !h.Same {
			const format = "rule %d of chain %s, with handle %d, differs from: %s"
			return fmt.Sprintf(format, i+1, chain, h.Handle, want.Rules[i]), nil, nil
		}
	}
	return "", held, nil
}
