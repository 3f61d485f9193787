// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/stages"
)

// retiring is a table with two isolations: pods leads 10.0.0.1 to one, and each has a set of peers and a map.
func retiring(t *testing.T) *nft.Table {
	t.Helper()
	table := nft.NewTable("t", "")
	for _, name := range []string{"one", "two"} {
		table.SetChain(&nft.Chain{Name: name + "-ports", Rules: []nft.Rule{nft.R(accept())}})
		peers := table.Set(name+"-peers", nft.SetType{Family: nft.IPv4}, "")
		peers.Want(key("192.0.2.1"), nft.Value{})
		peers.Want(key("192.0.2.2"), nft.Value{})
		ranges := table.Set(name+"-ranges", nft.SetType{Family: nft.IPv4, Map: true}, "")
		ranges.Want(key("192.0.2.3"), nft.Value{Verdict: nft.JumpTo(name + "-ports")})
		table.SetChain(&nft.Chain{Name: name, Rules: []nft.Rule{nft.R(nft.LookupIn(nft.Source, peers), accept()),
			nft.R(nft.LookupIn(nft.Source, ranges))}})
	}
	pods := table.Set("pods", nft.SetType{Family: nft.IPv4, Map: true}, "")
	pods.Want(key("10.0.0.1"), nft.Value{Verdict: nft.GotoChain("one")})
	table.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{},
		Rules: []nft.Rule{nft.R(nft.LookupIn(nft.Destination, pods))}})
	table.Take()
	return table
}

// TestRetireCounts: the elements of a counting set are deleted at once, so that their last counts are reported.
func TestRetireCounts(t *testing.T) {
	table := retiring(t)
	counts := table.Set("counts", nft.SetType{Family: nft.IPv4, Counter: true}, "")
	counts.Want(key("10.0.0.1"), nft.Value{Comment: "ns/pod"})
	counts.Want(key("10.0.0.2"), nft.Value{})
	table.Take()
	counts.Unwant(key("10.0.0.1"))
	table.DeleteSet("counts")
	got := table.Take().String()
	if want := "delete element inet t counts { 10.0.0.1, 10.0.0.2 }\n"; got != want {
		t.Errorf("at once:\n%s, want\n%s", got, want)
	}
	table.Reap(table.Retired())
	if got, want := table.Take().String(), "delete set inet t counts\n"; got != want {
		t.Errorf("at the end:\n%s, want\n%s", got, want)
	}
}

// deleteOne deletes the isolation named one, and sends its pod to the other.
func deleteOne(table *nft.Table) {
	table.FindSet("pods").Want(key("10.0.0.1"), nft.Value{Verdict: nft.GotoChain("two")})
	for _, name := range []string{"one-peers", "one-ranges"} {
		table.DeleteSet(name)
	}
	table.DeleteChain("one")
	table.DeleteChain("one-ports")
}

// TestRetire: what each edit does at once, and what when it is reaped.
func TestRetire(t *testing.T) {
	const away = "delete element inet t pods { 10.0.0.1 }\n"
	const gone = "delete element inet t one-peers { 192.0.2.1 }\n"
	for name, test := range map[string]struct {
		edit    func(*nft.Table)
		at, end string
		late    bool // elements
	}{
		"an element of its own": {func(t *nft.Table) {
			t.FindSet("one-peers").Unwant(key("192.0.2.1"))
		}, gone, "", false},
		"an isolation": {
			deleteOne,
			away + "add element inet t pods { 10.0.0.1 : goto two }\n",
			"flush chain inet t one\nflush chain inet t one-ports\ndelete set inet t one-peers\ndelete map inet t " +
				"one-ranges\n" +
				"delete chain inet t one\ndelete chain inet t one-ports\n",
			false,
		},
		"the pod goes, and a peer": {
			func(t *nft.Table) {
				t.FindSet("one-peers").Unwant(key("192.0.2.1"))
				t.FindSet("pods").Unwant(key("10.0.0.1"))
			},
			away, gone, true,
		},
		"a peer goes from set to map": {
			func(t *nft.Table) {
				t.FindSet("one-peers").Unwant(key("192.0.2.1"))
				t.FindSet("one-ranges").Want(key("192.0.2.1"), nft.Value{Verdict: nft.JumpTo("one-ports")})
			},
			"add element inet t one-ranges { 192.0.2.1 : jump one-ports }\n", gone, true,
		},
		"a peer goes from one isolation to another": {
			func(t *nft.Table) {
				t.FindSet("one-peers").Unwant(key("192.0.2.1"))
				t.FindSet("two-ranges").Want(key("192.0.2.1"), nft.Value{Verdict: nft.JumpTo("two-ports")})
			},
			gone + "add element inet t two-ranges { 192.0.2.1 : jump two-ports }\n", "", false,
		},
		"other rules, and a peer goes": {
			func(t *nft.Table) {
				t.FindSet("one-peers").Unwant(key("192.0.2.1"))
				t.SetChain(&nft.Chain{Name: "one", Rules: []nft.Rule{nft.R(accept())}})
			},
			"flush chain inet t one\nadd rule inet t one accept\n", gone, true,
		},
	} {
		table := retiring(t)
		test.edit(table)
		if got := table.Take().String(); got != test.at {
			t.Errorf("%s: at once\n%s\nwant\n%s", name, got, test.at)
		}
		if table.Late() != test.late || table.Changed() || (table.Retired() != 0) != (test.end != "") {
			t.Errorf("%s: late %t, changed %t, retired %d", name, table.Late(), table.Changed(), table.Retired())
		}
		end := ""
		if tx := reaped(table); tx != nil {
			end = tx.String()
		}
		if end != test.end || table.Retired() != 0 {
			t.Errorf("%s: reaped\n%s\nwant\n%s", name, end, test.end)
		}
	}
}

// TestBridge: if the target of a key changes together with the rules that look it up, the key leads to both chains
// until packets that follow the old rules are gone; with the same rules, it changes at once.
func TestBridge(t *testing.T) {
	table := retiring(t)
	k := key("192.0.2.3")
	ranges := table.FindSet("one-ranges")
	ranges.Want(k, nft.Value{Verdict: nft.JumpTo("two-ports")})
	const other = "delete element inet t one-ranges { 192.0.2.3 }\n" +
		"add element inet t one-ranges { 192.0.2.3 : jump %s }\n"
	if got := table.Take().String(); got != fmt.Sprintf(other, "two-ports") || table.Late() {
		t.Errorf("with the same rules: %s", got)
	}

	rules := table.Chain("one").Rules
	ranges.Want(k, nft.Value{Verdict: nft.JumpTo("one-ports")})
	table.SetChain(&nft.Chain{Name: "one", Rules: rules[1:]})
	parts := stages.Of(table.Take())
	const bridge = "bridge-MACB32MVPDWW"
	want := []string{
		"add chain inet t " + bridge + " { comment \"until the packets under way have left\"; }\n" +
			"add rule inet t " + bridge + " jump one-ports\nadd rule inet t " + bridge + " jump two-ports\n",
		fmt.Sprintf(other, bridge),
		"flush chain inet t one\nadd rule inet t one ip saddr vmap @one-ranges\n",
	}
	for i, w := range want {
		if len(parts) != len(want) || parts[i].String() != w {
			t.Fatalf("with other rules: %v, want %q", parts, want)
		}
	}
	number := table.Retired()
	if !table.Late() || number == 0 {
		t.Error("nobody says that it is not over")
	}

	ranges.Want(k, nft.Value{Verdict: nft.JumpTo("two-ports")}) // and back, which the bridge allows already
	table.SetChain(&nft.Chain{Name: "one", Rules: rules})
	if got := table.Take().String(); got != "flush chain inet t one\nadd rule inet t one ip saddr @one-peers accept\n"+
		"add rule inet t one ip saddr vmap @one-ranges\n" {
		t.Errorf("and back: %s", got)
	}
	if table.Reap(number); table.Take() != nil {
		t.Error("the bridge is gone while packets may be on it")
	}
	end := fmt.Sprintf(other, "two-ports") + "flush chain inet t " + bridge + "\ndelete chain inet t " + bridge + "\n"
	if got := reaped(table).String(); got != end || table.Late() || table.Retired() != 0 {
		t.Errorf("at last: %s", got)
	}
}

// TestManyBridges: many keys are committed in portions, in each of which a key is deleted and added.
func TestManyBridges(t *testing.T) {
	table := retiring(t)
	ranges := table.FindSet("one-ranges")
	each := func(chain string) {
		for i := range 25_000 {
			a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			ranges.Want(nft.AddrKey(a), nft.Value{Verdict: nft.JumpTo(chain)})
		}
	}
	each("one-ports")
	table.Take()
	each("two-ports")
	table.SetChain(&nft.Chain{Name: "one", Rules: table.Chain("one").Rules[1:]})
	var lengths []int
	for _, stage := range stages.Of(table.Take()) {
		lengths = append(lengths, stage.Len())
		if len(stage.Ops) == 2 && !slices.EqualFunc(stage.Ops[0].Elements, stage.Ops[1].Elements, sameKey) {
			t.Error("other keys are deleted than are added")
		}
	}
	if want := []int{3, 20_000, 20_000, 10_000, 2}; !slices.Equal(lengths, want) {
		t.Errorf("stages of %d operations, want %d", lengths, want)
	}
}

func sameKey(a, b nft.Element) bool { return a.Key == b.Key }

// TestReapInTurn: what is retired later stays longer.
func TestReapInTurn(t *testing.T) {
	table := retiring(t)
	deleteOne(table)
	table.Take()
	first := table.Retired()
	table.FindSet("pods").Unwant(key("10.0.0.1"))
	table.DeleteChain("two")
	table.Take()
	table.Reap(first)
	if got := table.Take().String(); !strings.Contains(got, "delete chain inet t one\n") ||
		strings.Contains(got, "two") {
		t.Errorf("reaped\n%s", got)
	}
	if got := reaped(table).String(); got != "flush chain inet t two\ndelete chain inet t two\n" {
		t.Errorf("reaped at last\n%s", got)
	}
}

// TestRevive: an isolation that is wanted again is brought up to date before anything leads to it, and what has not
// changed is left alone.
func TestRevive(t *testing.T) {
	table := retiring(t)
	one := table.Chain("one")
	deleteOne(table)
	table.Take()
	peers := table.Set("one-peers", nft.SetType{Family: nft.IPv4}, "")
	peers.Want(key("192.0.2.2"), nft.Value{})
	peers.Want(key("192.0.2.9"), nft.Value{})
	table.SetChain(&nft.Chain{Name: "one", Rules: one.Rules[:1]})
	table.SetChain(&nft.Chain{Name: "one-ports", Rules: []nft.Rule{nft.R(accept())}})
	table.FindSet("pods").Want(key("10.0.0.1"), nft.Value{Verdict: nft.GotoChain("one")})
	parts := stages.Of(table.Take())
	if len(parts) != 2 {
		t.Fatalf("got %v, want two stages", parts)
	}
	if got := parts[0].String(); got != "delete element inet t one-peers { 192.0.2.1 }\nflush chain inet t one\n"+
		"add rule inet t one ip saddr @one-peers accept\nadd element inet t one-peers { 192.0.2.9 }\n" {
		t.Errorf("first\n%s", got)
	}
	if got := parts[1].String(); got != "delete element inet t pods { 10.0.0.1 }\nadd element inet t pods "+
		"{ 10.0.0.1 : goto one }\n" {
		t.Errorf("then\n%s", got)
	}
	if got := reaped(table).String(); got != "delete map inet t one-ranges\n" {
		t.Errorf("reaped\n%s", got)
	}
}

// TestLeadToChanged: references to a chain whose rules change come after the rules, references removed from it before.
func TestLeadToChanged(t *testing.T) {
	table := retiring(t)
	table.SetChain(&nft.Chain{Name: "one", Rules: []nft.Rule{nft.R(accept())}})
	table.FindSet("pods").Want(key("10.0.0.1"), nft.Value{Verdict: nft.GotoChain("two")})
	if parts := stages.Of(table.Take()); len(parts) != 1 {
		t.Errorf("where nothing leads there: %v", parts)
	}
	table.SetChain(&nft.Chain{Name: "two", Rules: []nft.Rule{nft.R(accept())}})
	table.FindSet("pods").Unwant(key("10.0.0.1"))
	table.FindSet("pods").Want(key("10.0.0.2"), nft.Value{Verdict: nft.GotoChain("two")})
	var got []string
	for _, stage := range stages.Of(table.Take()) {
		got = append(got, stage.String())
	}
	want := []string{
		"delete element inet t pods { 10.0.0.1 }\n",
		"flush chain inet t two\nadd rule inet t two accept\n",
		"add element inet t pods { 10.0.0.2 : goto two }\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestForgetRetired: after a replacement nothing is retired.
func TestForgetRetired(t *testing.T) {
	table := retiring(t)
	deleteOne(table)
	table.Take()
	table.Forget()
	if table.Retired() != 0 {
		t.Error("something is retired")
	}
	if got := table.Take().String(); strings.Contains(got, "one") || table.Retired() != 0 {
		t.Errorf("the replacement is\n%s", got)
	}
}
