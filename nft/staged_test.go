// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
)

// TestStaged has a pod go from one chain to a new one: the new one is committed before anything leads to it.
func TestStaged(t *testing.T) {
	table := nft.NewTable("t", "")
	one, two := &nft.Chain{Name: "one"}, &nft.Chain{Name: "two"}
	for _, c := range []*nft.Chain{one, two} {
		c.Rules = []nft.Rule{{}}
	}
	table.SetChain(one)
	if first, second := table.Pending().Staged(); first != nil || !second.Replaces() {
		t.Errorf("the replacement of a table is split into\n%v\n%v", first, second)
	}
	table.SetChain(two)
	if first, second := table.Pending().Staged(); first != nil || second == nil {
		t.Errorf("what has nothing else to wait for it is split into\n%v\n%v", first, second)
	}
	three := &nft.Chain{Name: "three", Rules: []nft.Rule{{}}}
	table.SetChain(three)
	table.DeleteChain("one")
	first, second := table.Pending().Staged()
	if s := first.String(); !strings.Contains(s, "add rule inet t three") || strings.Contains(s, "one") {
		t.Errorf("first:\n%s", s)
	}
	if s := second.String(); !strings.Contains(s, "delete chain inet t one") || strings.Contains(s, "three") {
		t.Errorf("second:\n%s", s)
	}
	if first, second := (*nft.Transaction)(nil).Staged(); first != nil || second != nil {
		t.Error("nothing is split into something")
	}
}
