// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// owner opens a connection that owns its tables, or skips the test where the kernel cannot do that.
func owner(t *testing.T) *kernel.Conn {
	t.Helper()
	c := open(t, kernel.Config{Own: true})
	if !c.Owns() {
		netns.Lacks(t, "tables that are owned and outlive their owner", 6, 9)
	}
	return c
}

// What the kernel lacks is reported if it was asked for, and only then.
func TestLacks(t *testing.T) {
	netns.Enter(t)
	for _, config := range []kernel.Config{{}, {Needs: kernel.Everything}, {Needs: kernel.Everything, Own: true}} {
		c := open(t, config)
		var owned bool
		for _, l := range c.Lacks() {
			owned = owned || l.What == "the table is not owned" && l.Since == "6.9" && l.Effect != ""
		}
		if want := config.Own && !c.Owns(); owned != want {
			t.Errorf("%+v: %+v; that the table is not owned is told: %t, want %t", config, c.Lacks(), owned, want)
		}
	}
}

// refuses says whether nft(8) is refused something.
func refuses(args string) bool {
	out, err := exec.Command("nft", strings.Fields(args)...).CombinedOutput()
	return err != nil && strings.Contains(string(out), "Operation not permitted")
}

// Nobody else can change an owned table; it outlives its owner, and the next one takes it over.
func TestOwn(t *testing.T) {
	netns.Enter(t)
	first := owner(t)
	table := standing()
	apply(t, first, table)
	want := listed(t)
	if header := netns.NFT(t, "", "list", "table", "inet", "t"); !strings.Contains(header, "flags owner") {
		t.Errorf("not owned:\n%s", header)
	}
	table.FindSet("hash").Want(nft.AddrKey(v4(1)), nft.Value{})
	apply(t, first, table)
	table.FindSet("hash").Unwant(nft.AddrKey(v4(1)))
	apply(t, first, table)

	netns.NFT(t, "", "flush", "ruleset")
	if got := listed(t); got != want {
		t.Errorf("flush ruleset changed\n%s", diff(got, want))
	}
	for _, args := range []string{
		"delete table inet t", "add chain inet t c2", "flush chain inet t c", "add element inet t hash { 10.9.9.9 }",
	} {
		if !refuses(args) {
			t.Errorf("nft %s went through", args)
		}
	}

	for _, config := range []kernel.Config{{}, {Own: true}} {
		second := open(t, config)
		if _, err := second.Apply(t.Context(), standing().Take()); !errors.Is(err, kernel.ErrOwned) {
			t.Errorf("%+v: got %v", config, err)
		} else {
			t.Log(err)
		}
		if err := second.DeleteTable(t.Context(), "t"); !errors.Is(err, kernel.ErrOwned) {
			t.Errorf("%+v: got %v", config, err)
		}
		_ = second.Close()
	}

	_ = first.Close()
	if got := listed(t); got != want {
		t.Errorf("without its owner the table is\n%s", diff(got, want))
	}
	third := owner(t)
	apply(t, third, standing())
	if !refuses("delete table inet t") {
		t.Error("the table that was taken over is not owned")
	}
	_ = third.Close()

	fourth := open(t, kernel.Config{})
	apply(t, fourth, standing())
	if got := listed(t); got != want {
		t.Errorf("after all that the table is\n%s", diff(got, want))
	}
	if refuses("add chain inet t c2") {
		t.Error("a table of a connection that owns none is owned")
	}
}

// listed is the listing of table t without its owner.
func listed(t *testing.T) string {
	t.Helper()
	lines := strings.Split(netns.NFT(t, "", "list", "table", "inet", "t"), "\n")
	kept := lines[:0]
	for i, l := range lines {
		if strings.HasPrefix(l, "\tflags") {
			continue
		}
		if i == 0 {
			l, _, _ = strings.Cut(l, " #")
		}
		kept = append(kept, l)
	}
	return canonical(strings.Join(kept, "\n"))
}

// A table that was never owned is replaced by one that is.
func TestOwnWhatWasNot(t *testing.T) {
	netns.Enter(t)
	c := owner(t)
	netns.NFT(t, "", "add table inet t")
	netns.NFT(t, "", "add chain inet t leftover")
	apply(t, c, standing())
	if got := listed(t); strings.Contains(got, "leftover") {
		t.Errorf("got\n%s", got)
	}
	if !refuses("delete table inet t") {
		t.Error("the table is not owned")
	}
	if err := c.DeleteTable(t.Context(), "t"); err != nil {
		t.Error(err)
	}
}

// A table without an owner can be deleted by anybody.
func TestDeleteOrphan(t *testing.T) {
	netns.Enter(t)
	c := owner(t)
	apply(t, c, standing())
	_ = c.Close()
	if err := open(t, kernel.Config{}).DeleteTable(t.Context(), "t"); err != nil {
		t.Error(err)
	}
	if tables := netns.NFT(t, "", "list", "tables"); tables != "" {
		t.Errorf("tables:\n%s", tables)
	}
}
