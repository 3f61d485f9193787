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

// TestStages moves a pod from one chain to a new one: the new one is committed before anything leads to it.
func TestStages(t *testing.T) {
	table := nft.NewTable("t", "")
	one, two := &nft.Chain{Name: "one"}, &nft.Chain{Name: "two"}
	for _, c := range []*nft.Chain{one, two} {
		c.Rules = []nft.Rule{{}}
	}
	table.SetChain(one)
	if parts := stages.Of(table.Take()); len(parts) != 1 || !parts[0].Replaces() {
		t.Errorf("the replacement of a table is split into %v", parts)
	}
	table.SetChain(two)
	if parts := stages.Of(table.Take()); len(parts) != 1 {
		t.Errorf("what has nothing else to wait for it is split into %v", parts)
	}
	three := &nft.Chain{Name: "three", Rules: []nft.Rule{{}}}
	table.SetChain(three)
	table.SetChain(&nft.Chain{Name: "two"})
	table.DeleteChain("one")
	parts := stages.Of(table.Take())
	if len(parts) != 2 {
		t.Fatalf("got %v, want two stages", parts)
	}
	if s := parts[0].String(); !strings.Contains(s, "add rule inet t three") || strings.Contains(s, "two") {
		t.Errorf("first:\n%s", s)
	}
	if s := parts[1].String(); s != "flush chain inet t two\n" {
		t.Errorf("second:\n%s", s)
	}
	parts = stages.Of(reaped(table))
	if len(parts) != 2 {
		t.Fatalf("got %v, want two stages", parts)
	}
	if s := parts[0].String() + parts[1].String(); s != "flush chain inet t one\ndelete chain inet t one\n" {
		t.Errorf("at last:\n%s", s)
	}
	if parts := stages.Of(nil); len(parts) != 0 {
		t.Errorf("nothing is split into %v", parts)
	}
}

// TestStagesOfIntervals: the ports of a rule, in their own set, are committed in portions before the rule.
func TestStagesOfIntervals(t *testing.T) {
	table := nft.NewTable("t", "")
	table.Take()
	ports := table.Set("ports", nft.SetType{Fields: nft.PortInterval}, "")
	for i := range uint16(32_768) {
		ports.Want(nft.IntervalKey(2*i, 2*i), nft.Value{})
	}
	table.SetChain(&nft.Chain{Name: "c",
		Rules: []nft.Rule{nft.R(nft.Lookup{Proto: nft.TCP, Set: "ports", Type: ports.Type}, accept())}})
	parts := stages.Of(table.Take())
	total := 0
	for i, stage := range parts {
		if n := stage.Len(); n > 10_000 { // each is two of the kernel's
			t.Errorf("stage %d of %d has %d operations", i+1, len(parts), n)
		}
		total += stage.Len()
	}
	if want := 32_768 + 3; total != want || len(parts) != 4 {
		t.Errorf("%d operations in %d stages, want %d in 4", total, len(parts), want)
	}
}

// TestStagesOfSetsInUse: many elements added to a set in use come in portions before the rest, and deleted ones after
// it. Elements of a map, or of a set with additions and deletions, come with the rest.
func TestStagesOfSetsInUse(t *testing.T) {
	const elements = 50_000
	fill := func(n int, edit func(nft.Key)) {
		for i := range n {
			edit(nft.AddrKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})))
		}
	}
	table := nft.NewTable("t", "")
	grows, shrinks := table.Set("grows", nft.SetType{Family: nft.IPv4}, ""),
		table.Set("shrinks", nft.SetType{Family: nft.IPv4}, "")
	verdicts := table.Set("verdicts", nft.SetType{Family: nft.IPv4, Map: true}, "")
	fill(elements, func(k nft.Key) { shrinks.Want(k, nft.Value{}) })
	table.Take()
	fill(elements, func(k nft.Key) { grows.Want(k, nft.Value{}) })
	fill(elements, shrinks.Unwant)
	fill(10, func(k nft.Key) { verdicts.Want(k, nft.Value{Verdict: accept()}) })
	var order []string
	for _, stage := range stages.Of(table.Take()) {
		if stage.Len() > 20_000 {
			t.Errorf("a stage has %d operations", stage.Len())
		}
		for _, op := range stage.Ops {
			order = append(order, op.Set.Name)
		}
	}
	if got := strings.Join(slices.Compact(order), " "); got != "grows verdicts shrinks" {
		t.Errorf("got %s", got)
	}

	fill(elements, grows.Unwant)
	grows.Want(nft.AddrKey(netip.IPv4Unspecified()), nft.Value{})
	if parts := stages.Of(table.Take()); len(parts) != 1 {
		t.Errorf("a set that changes in both ways is split into %d stages", len(parts))
	}
}

// TestDetached: portions are bounded, have everything once and in order, and the base chains are in the last one.
func TestDetached(t *testing.T) {
	table := nft.NewTable("t", "")
	const elements = 50_000
	want := 0
	for _, name := range []string{"a", "b", "c"} {
		s := table.Set(name, nft.SetType{Family: nft.IPv4}, "")
		for i := range elements {
			s.Want(nft.AddrKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), nft.Value{})
		}
		want += 1 + elements
	}
	lookup := nft.R(nft.LookupIn(nft.Source, table.FindSet("a")), nft.JumpTo("other"))
	table.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{}, Rules: []nft.Rule{lookup}})
	table.SetChain(&nft.Chain{Name: "other", Rules: []nft.Rule{{}}})
	tx := table.Take()
	before := tx.String()
	var ops []string
	got := 0
	tx.Detached = true
	parts := stages.Of(tx)
	for i, stage := range parts {
		if n := stage.Len(); n > 20_000 {
			t.Errorf("stage %d of %d has %d operations", i+1, len(parts), n)
		}
		if i > 0 && stage.Replaces() {
			t.Errorf("stage %d replaces the table, too", i+1)
		}
		hooks := slices.ContainsFunc(stage.Ops, func(op nft.Op) bool { return op.Chain != nil && op.Chain.Base != nil })
		if last := i == len(parts)-1; hooks != last {
			t.Errorf("stage %d of %d hooks: %t", i+1, len(parts), hooks)
		}
		for _, op := range stage.Ops {
			ops = append(ops, fmt.Sprintf("%s %d", op.Describe(), len(op.Elements)))
		}
		got += stage.Len()
	}
	if want += 3 + 4; got != want { // the table, and two chains with a rule each
		t.Errorf("got %d operations, want %d:\n%s", got, want, strings.Join(ops, "\n"))
	}
	if tx.String() != before {
		t.Error("the transaction itself was changed")
	}
}
