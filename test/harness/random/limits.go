// SPDX-License-Identifier: Apache-2.0

package random

import (
	"github.com/netpold/netpold/translate/content"
)

// Limits returns the limits of a seed: mostly none, otherwise so low that some policies exceed them.
func Limits(seed uint64) content.Limits {
	r := Source(^seed)
	if seed%4 != 3 {
		return content.Limits{}
	}
	limit := func(n int) int { return r.IntN(2) * (1 + r.IntN(n)) }
	return content.Limits{
		Policies: limit(4), Ports: limit(10), Selectors: limit(10), Blocks: limit(8), Elements: limit(60),
		Namespace: limit(150), SelectorCost: limit(3),
	}
}
