// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/policy"
)

// WouldDeny says in which directions audited policies would deny a packet on its way through a table.
func WouldDeny(t trace.Trail) (would [2]bool) {
	for _, step := range t.Steps {
		for _, d := range policy.Directions() {
			for _, chain := range []string{"audit-", "would-deny-admin-", "would-deny-baseline-"} {
				would[d] = would[d] || step.Verdict == nft.GotoChain(chain+d.String())
			}
		}
	}
	return would
}
