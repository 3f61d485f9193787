// SPDX-License-Identifier: Apache-2.0

package reading

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/netpold/netpold/translate/policy"
)

// TestManyLabels: the memory of a pod's labels is proportional to their number.
func TestManyLabels(t *testing.T) {
	allocated := func(labels int) uint64 {
		p := policy.Pod{Labels: make(map[string]string)}
		for i := range labels {
			p.Labels[strconv.Itoa(i)] = "v"
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		identityKey(&p, nil)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := allocated(1000), allocated(10_000); many > 40*few {
		t.Errorf("1,000 labels took %d bytes, 10,000 took %d", few, many)
	}
}
