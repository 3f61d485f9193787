// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"github.com/netpold/netpold/test/harness/netns"
)

// Open finds out whether commits walk every path through the chains, if policies need to know. Linux 6.12.117 and
// 6.18.44 walk each chain once; the test believes other kernels.
func TestWalk(t *testing.T) {
	netns.Enter(t)
	for needs, want := range map[Needs]bool{0: false, Policies: true} {
		c, err := Open(Config{Needs: needs})
		netns.Require(t, err)
		told := false
		for _, l := range c.Lacks() {
			told = told || l.Since == hasOneWalk
		}
		t.Logf("needs %d: it walks every way: %t", needs, c.WalksEveryWay())
		if told != c.WalksEveryWay() || told && !want {
			t.Errorf("needs %d: told: %t, found: %t", needs, told, c.WalksEveryWay())
		}
		if told {
			netns.Lacks(t, "a commit that walks each chain once", 6, 19)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
