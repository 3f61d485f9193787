// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/netns"
)

// TestApplyReply holds the rule with which --established=recheck lets replies through against what nft(8) makes of it.
func TestApplyReply(t *testing.T) {
	netns.Enter(t)
	rule := nft.R(nft.CtState{nft.Established}, nft.CtReply{}, nft.Verdict{Kind: nft.Accept})
	table := nft.NewTable("ours", "")
	table.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{rule}})
	if err := open(t, kernel.Config{}).Apply(t.Context(), table.Pending()); err != nil {
		t.Fatal(err)
	}
	if got := list(t, "ours"); !strings.Contains(got, "\t"+rule.String()+"\n") {
		t.Errorf("no %q in\n%s", rule, got)
	}
}
