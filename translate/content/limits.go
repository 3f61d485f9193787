// SPDX-License-Identifier: Apache-2.0

package content

import (
	"fmt"
	"iter"
	"math"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Limits bound what policies may take up on a node. The excess allows nothing, but still isolates. Policies are
// admitted by name, and their rules in order: a rule that does not fit into what is left of a limit is left out
// entirely. Zero means no limit.
type Limits struct {
	Policies  int // isolating one pod in one direction
	Ports     int // of a rule: distinct ports and port ranges
	Selectors int // of an isolation
	Blocks    int // CIDRs of an isolation's ipBlocks, including except
	Elements  int // of an isolation: see [Demand]
	Namespace int // elements of all isolations of a namespace, granted in the order of their keys

	// SelectorCost is how many elements a selector of an isolation counts as, besides those of its pods: it takes
	// memory even if it matches nothing.
	SelectorCost int
}

// DefaultLimits are far beyond what real policies need, and fit in the memory limit of the DaemonSet.
func DefaultLimits() Limits {
	return Limits{
		Policies: 5000, Ports: 50_000, Selectors: 2000, Blocks: 10_000, Elements: 200_000, Namespace: 500_000,
		SelectorCost: 6,
	}
}

// Demand is what the rules of an isolation ask for and get.
type Demand[S comparable] struct {
	Elements int       // that all rules ask for, including the excess
	Each     map[S]int // how many of them for each address that a selector matches
	Budget   int       // elements available when the isolation was built
	Over     []policy.Excess
}

// Reasons yields, for each policy with rules over a limit, what is.
func (d Demand[S]) Reasons() iter.Seq2[types.NamespacedName, string] {
	byPolicy := make(map[types.NamespacedName][]policy.Excess)
	for _, e := range d.Over {
		byPolicy[e.Policy] = append(byPolicy[e.Policy], e)
	}
	return func(yield func(types.NamespacedName, string) bool) {
		for name, rules := range byPolicy {
			reason := fmt.Sprintf("spec.%s[%d]: %s", rules[0].Direction, rules[0].Index, rules[0].Reason)
			if n := len(rules) - 1; n > 0 {
				reason += fmt.Sprintf(", and %d more rules", n)
			}
			if !yield(name, reason) {
				return
			}
		}
	}
}

// NoLimit is the budget without a limit.
const NoLimit = math.MaxInt

// AtMost returns the budget of a limit.
func AtMost(limit int) int {
	if limit == 0 {
		return NoLimit
	}
	return limit
}
