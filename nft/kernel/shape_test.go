// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// sameShape wants the kernel's table to have the shape that the table expects, if that is known.
func sameShape(t *testing.T, c *kernel.Conn, table *nft.Table) {
	t.Helper()
	want, known := table.Shape()
	if !known {
		return
	}
	got, err := c.Shape(t.Context(), table.Name)
	if err != nil {
		t.Fatal(err)
	}
	if difference := want.Difference(got); difference != "" {
		t.Errorf("the kernel's table differs: %s", difference)
	}
}

// What others do to a table shows in its shape, and what they do to theirs does not.
func TestShape(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	for _, test := range []struct{ command, want string }{
		{"add table inet foreign; add chain inet foreign c; add set inet foreign s { type mark; }", ""},
		{"add table ip t; add chain ip t x", ""},
		{"flush chain inet t c", "chain c has 0 uses, not 1"},
		{"add rule inet t used accept", "chain used has 4 uses, not 3"},
		{"flush map inet t verdicts", "chain used has 2 uses, not 3"},
		{"flush chain inet t c; delete chain inet t c", "chain c is gone"},
		{"add chain inet t stranger", "chain stranger was added"},
		{"delete set inet t ranges", "set ranges is gone"},
		{"add set inet t stranger { type ipv4_addr; }", "set stranger was added"},
		{"add rule inet t c th dport { 1, 2 } accept", "chain c has 2 uses, not 1"},
		{"add element inet t hash { 192.0.2.1 }", "set hash has 2 elements, not 1"},
		{"flush set inet t hash", "set hash has 0 elements, not 1"},
	} {
		table := standing()
		verdicts := table.Set("verdicts", nft.SetType{Family: nft.IPv4, Map: true}, "")
		verdicts.Want(nft.AddrKey(v4(0)), verdict(nft.GotoChain("used")))
		apply(t, c, table)
		sameShape(t, c, table)
		netns.NFT(t, "", test.command)
		got, err := c.Shape(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(test.want, "elements") && got.Sets["hash"] == nft.Unknown {
			netns.Lacks(t, "the number of elements of a set", 6, 16)
		}
		want, _ := table.Shape()
		if difference := want.Difference(got); difference != test.want {
			t.Errorf("after nft %s: %q, want %q", test.command, difference, test.want)
		}
	}
	netns.NFT(t, "", "flush ruleset")
	if got, err := c.Shape(t.Context(), "t"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a table that is not there: %+v, %v", got, err)
	}
}

// An owned table is not read, as nobody else can have changed it. To another connection, the same table is somebody
// else's.
func TestShapeOwned(t *testing.T) {
	netns.Enter(t)
	c, other := owner(t), open(t, kernel.Config{})
	table := standing()
	apply(t, c, table)
	if got, err := c.Shape(t.Context(), "t"); err != nil || !got.Owned || len(got.Chains) > 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := other.Shape(t.Context(), "t"); err != nil || got.Owned {
		t.Errorf("for another connection: %+v, %v", got, err)
	}
	sameShape(t, other, table)
}
