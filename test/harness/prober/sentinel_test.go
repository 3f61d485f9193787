// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSentinelLost: a lost sentinel is an error, not a verdict, and the next one is not mistaken for it.
func TestSentinelLost(t *testing.T) {
	p := New(t)
	p.patience = time.Millisecond
	for _, c := range []struct {
		ruleset string
		ok      bool
	}{
		{"flush ruleset", true},
		{"table inet test { chain input { type filter hook input priority filter; policy drop; }; }", false},
		{"flush ruleset", true},
	} {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(c.ruleset)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v\n%s", err, out)
		}
		out, err := p.Send(Echo(sentinelAddr(), sentinelAddr().Next(), 1, 1))
		if (err == nil) != c.ok || c.ok && len(out) != 1 {
			t.Errorf("%s: %d packets came out, error %v", c.ruleset, len(out), err)
		}
	}
}
