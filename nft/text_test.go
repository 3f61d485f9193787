// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/netns"
)

// everything is a table that has every kind of thing at least once.
func everything() *nft.Table {
	t := nft.NewTable("everything", `all of the model; a "quote" is cleaned`)
	fillSets(t)
	set := func(name string) nft.Lookup { return nft.LookupIn(nft.Source, t.FindSet(name)) }
	to := func(name string) nft.Lookup { return nft.LookupIn(nft.Destination, t.FindSet(name)) }
	t.SetChain(&nft.Chain{Name: "forward-egress", Comment: "the earlier one", Base: &nft.Base{Priority: -1},
		Rules: []nft.Rule{
			nft.R(nft.CtState{nft.Established, nft.Related}, accept()),
			nft.R(set("verdicts-4")),
			nft.R(set("verdicts-6")),
		}})
	t.SetChain(&nft.Chain{Name: "forward-ingress", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.CtState{nft.Related}, accept()),
		nft.R(nft.CtState{nft.Established}, nft.CtReply{}, accept()),
		nft.R(to("verdicts-4")),
		nft.R(to("verdicts-6")),
	}})
	t.SetChain(&nft.Chain{Name: "last", Base: &nft.Base{Priority: 10}})
	t.SetChain(&nft.Chain{Name: "ingress-7F3A9C2Q-default/web.v1_a", Comment: "1 pod; default/web", Rules: []nft.Rule{
		{Statements: []nft.Statement{nft.NeighbourDiscovery{}, accept()}, Comment: "RFC 4861"},
		nft.R(set("addresses-4"), accept()),
		nft.R(set("addresses-6"), ports(nft.TCP, 80), accept()),
		nft.R(set("pairs-4"), accept()),
		nft.R(to("pairs-6"), accept()),
		nft.R(set("ports-4"), accept()),
		nft.R(to("ports-6"), accept()),
		nft.R(set("ranges-4")),
		nft.R(to("ranges-6")),
		nft.R(nft.GotoChain("ports")),
	}})
	t.SetChain(&nft.Chain{Name: "ports", Rules: []nft.Rule{
		nft.R(ports(nft.UDP, 53), accept()),
		nft.R(nft.Ports{{Proto: nft.SCTP, First: 8000, Last: 9000}}, accept()),
		nft.R(nft.Ports{{Proto: nft.SCTP, First: 0, Last: 65535}}, accept()),
		nft.R(ports(nft.TCP, 80, 443), accept()),
		nft.R(nft.Ports{{Proto: nft.TCP, First: 0, Last: 79}, {Proto: nft.TCP, First: 8000, Last: 65535}}, accept()),
		nft.R(nft.Ports{{Proto: nft.UDP, First: 53, Last: 53}, {Proto: nft.UDP, First: 80, Last: 90}}, nft.Counter{}),
		nft.R(nft.Lookup{Proto: nft.TCP, Set: "many", Type: nft.SetType{Fields: nft.PortInterval}}, accept()),
		nft.R(nft.Lookup{Proto: nft.SCTP, Set: "few", Type: nft.SetType{Fields: nft.Port}}, accept()),
		nft.R(nft.Lookup{Proto: nft.TCP, Set: "known",
			Type: nft.SetType{Fields: nft.Port, Map: true, Size: 2}}),
		nft.R(nft.CtDNAT{}, nft.Verdict{Kind: nft.Return}),
		nft.R(nft.Lookup{Proto: nft.UDP, Set: "services",
			Type: nft.SetType{Fields: nft.PortInterval, Map: true}}),
		nft.R(nft.JumpTo("tail")),
	}})
	t.SetChain(&nft.Chain{Name: "flows", Rules: []nft.Rule{
		nft.R(nft.CtState{nft.New, nft.Untracked}, nft.JumpTo("ports")),
		nft.R(nft.OfFamily{Family: nft.IPv6}, nft.Verdict{Kind: nft.Return}),
		nft.R(nft.AddrIn{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Not: true},
			nft.AddrIn{Side: nft.Destination, Prefix: netip.MustParsePrefix("10.1.2.3/32"), Not: true}, drop()),
		nft.R(nft.Lookup{Set: "addresses-4", Type: nft.SetType{Family: nft.IPv4}, Not: true}, drop()),
		nft.R(nft.Opening{}, nft.Verdict{Kind: nft.Return}),
		nft.R(nft.UpdateOf(t.FindSet("flows-4")), nft.Verdict{Kind: nft.Return}),
		nft.R(nft.Update{Set: "flows-6", Type: t.FindSet("flows-6").Type, Portless: true}, nft.Counter{}),
	}})
	t.SetChain(&nft.Chain{Name: "tail", Rules: []nft.Rule{
		nft.R(nft.Limit{Rate: 100, Burst: 200}, nft.Log{Prefix: `ingress "7F3A" `, Group: 86, Snaplen: 128}),
		nft.R(nft.Limit{Rate: 1, Burst: 5}, nft.Verdict{}),
		nft.R(nft.Ports{{Proto: nft.TCP, First: 0, Last: 65535}}, nft.Verdict{Kind: nft.Reset}),
		nft.R(nft.Counter{}, nft.Verdict{Kind: nft.Reject}),
		{Statements: []nft.Statement{nft.Counter{}, drop()}, Comment: "never " + strings.Repeat("reached ", 20)},
	}})
	return t
}

// fillSets adds a set of each kind to the table.
func fillSets(t *nft.Table) {
	empty := nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange}
	t.Set("empty", empty, "nothing in it")
	many := t.Set("many", nft.SetType{Fields: nft.PortInterval}, "of any protocol")
	for _, k := range []nft.Key{nft.IntervalKey(0, 1), nft.IntervalKey(80, 80), nft.IntervalKey(8000, 8999),
		nft.IntervalKey(65535, 65535)} {
		many.Want(k, nft.Value{})
	}
	services := t.Set("services", nft.SetType{Fields: nft.PortInterval, Map: true}, "")
	services.Want(nft.IntervalKey(53, 53), nft.Value{Verdict: accept()})
	services.Want(nft.IntervalKey(54, 65535), nft.Value{Verdict: nft.Verdict{Kind: nft.Return}})
	t.Set("few", nft.SetType{Fields: nft.Port}, "").Want(nft.Key{Port: 80}, nft.Value{})
	known := t.Set("known", nft.SetType{Fields: nft.Port, Map: true, Size: 2}, "")
	known.Want(nft.Key{Port: 53}, nft.Value{Verdict: accept()})
	known.Want(nft.Key{Port: 65535}, nft.Value{Verdict: drop()})
	for i, f := range nft.Families() {
		a := []string{"10.0.0.1", "fd00::1"}[i]
		b := []string{"192.168.0.255", "::192.168.0.255"}[i]
		name := func(s string) string { return s + "-" + f.String() }

		s := t.Set(name("addresses"), nft.SetType{Family: f, Counter: true}, "pods of all namespaces")
		s.Want(key(a), nft.Value{})
		s.Want(key(b), nft.Value{Comment: "default/b"})
		s = t.Set(name("pairs"), nft.SetType{Family: f, Fields: nft.AddrAddr}, "")
		s.Want(nft.PairKey(addr(a), addr(b)), nft.Value{Comment: "a to b"})
		s = t.Set(name("ports"), nft.SetType{Family: f, Fields: nft.AddrProtoPort}, "")
		for _, proto := range []uint8{nft.ICMP, nft.TCP, nft.UDP, nft.ICMPv6, nft.SCTP, 200} {
			s.Want(nft.PortKey(addr(a), proto, 80), nft.Value{})
		}
		t.Set(name("flows"), nft.SetType{Family: f, Fields: nft.Flow,
			Dynamic: nft.Dynamic{Max: 65536, Timeout: []uint32{3600, 90061}[i]}}, "that packets fill")
		s = t.Set(name("verdicts"), nft.SetType{Family: f, Map: true}, "")
		s.Want(key(a), nft.Value{Verdict: nft.GotoChain("ingress-7F3A9C2Q-default/web.v1_a"), Comment: "default/a"})
		s.Want(key(b), nft.Value{Verdict: drop()})
		s = t.Set(name("ranges"), nft.SetType{Family: f, Fields: nft.AddrRange, Map: true, Counter: true}, "blocks")
		for n, r := range [][][2]string{
			{{"0.0.0.0", "127.255.255.255"}, {"192.168.0.1", "192.168.0.255"}, {"255.255.255.255", "255.255.255.255"}},
			{{"::", "::1"}, {"fd00::", "fd00:0:ffff:ffff:ffff:ffff:ffff:ffff"},
				{"ffff::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
		}[i] {
			v := []nft.Verdict{accept(), nft.JumpTo("ports"), {}}[n]
			s.Want(nft.PairKey(addr(r[0]), addr(r[1])), nft.Value{Verdict: v, Comment: []string{"", "b", ""}[n]})
		}
	}
	for f, prefix := range map[nft.Family]string{nft.IPv4: "0.0.0.0/0", nft.IPv6: "::/0"} {
		all := t.Set("all-"+f.String(), nft.SetType{Family: f, Fields: nft.AddrRange}, "")
		all.Want(span(prefix), nft.Value{})
	}
}

// golden compares text with a file in testdata, or with -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, string(want))
}

// same reports the lines that only one of two texts has.
func same(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range g {
		if !slices.Contains(w, line) {
			t.Errorf("got  %s", line)
		}
	}
	for _, line := range w {
		if !slices.Contains(g, line) {
			t.Errorf("want %s", line)
		}
	}
	if !t.Failed() {
		t.Errorf("the lines are in another order; got\n%s", got)
	}
}

func TestGoldenTable(t *testing.T) {
	table := everything()
	golden(t, "everything.nft", table.String())
	golden(t, "everything-replace.nft", table.Take().String())
	change(table)
	golden(t, "everything-change.nft", table.Take().String())
	golden(t, "everything-retired.nft", reaped(table).String())
	golden(t, "empty.nft", nft.NewTable("t", "").String())
	golden(t, "empty-replace.nft", nft.NewTable("t", "").Take().String())
}

// reaped returns the transaction that deletes what is retired.
func reaped(t *nft.Table) *nft.Transaction {
	t.Reap(t.Retired())
	return t.Take()
}

// change edits a bit of everything.
func change(t *nft.Table) {
	t.FindSet("addresses-4").Unwant(key("10.0.0.1"))
	t.FindSet("addresses-6").Want(key("fd00::7"), nft.Value{Comment: "new"})
	t.FindSet("ports-4").Unwant(nft.PortKey(addr("10.0.0.1"), nft.TCP, 80))
	blocks := t.FindSet("ranges-4")
	blocks.Unwant(nft.PairKey(addr("0.0.0.0"), addr("127.255.255.255")))
	blocks.Want(span("0.0.0.0/2"), nft.Value{Verdict: accept()})
	blocks.Want(span("64.0.0.0/2"), nft.Value{Verdict: nft.GotoChain("new")})
	t.FindSet("verdicts-6").Want(key("fd00::1"), nft.Value{Verdict: nft.GotoChain("new")})
	t.DeleteSet("pairs-4")
	t.DeleteSet("pairs-6")
	t.Set("late", nft.SetType{Family: nft.IPv6}, "").Want(key("fd00::8"), nft.Value{})
	t.SetChain(&nft.Chain{Name: "new", Rules: []nft.Rule{nft.R(accept())}})
	t.SetChain(&nft.Chain{Name: "ports"})
	t.DeleteChain("tail")
	c := *t.Chain("ingress-7F3A9C2Q-default/web.v1_a")
	c.Rules = []nft.Rule{nft.R(nft.LookupIn(nft.Source, t.FindSet("late")), nft.GotoChain("new"))}
	t.SetChain(&c)
}

// TestNftText: nft(8) loads our text, and lists it as we write it.
func TestNftText(t *testing.T) {
	for _, table := range []*nft.Table{everything(), nft.NewTable("everything", "")} {
		netns.Enter(t)
		load(t, table.String())
		same(t, list(t), canonical(table.String()))
	}
}

// TestNftTransaction: the text of a transaction, loaded by nft(8), does what the transaction should.
func TestNftTransaction(t *testing.T) {
	netns.Enter(t)
	table := everything()
	load(t, table.Take().String())
	same(t, list(t), canonical(table.String()))

	change(table)
	load(t, table.Take().String())
	load(t, reaped(table).String())
	same(t, sorted(list(t)), sorted(canonical(table.String())))

	table.Forget()
	load(t, table.Take().String())
	same(t, list(t), canonical(table.String()))
}

// TestNftDepth: the kernel accepts chains as deep as the interpreter follows them, and not deeper.
func TestNftDepth(t *testing.T) {
	for _, down := range []func(string) nft.Verdict{nft.JumpTo, nft.GotoChain} {
		netns.Enter(t)
		load(t, ladder(maxLadder, down).Take().String())
		if out, err := run(t, ladder(maxLadder+1, down).Take().String(), "-f", "-"); err == nil {
			t.Errorf("the kernel takes %d chains below the other\n%s", maxLadder+1, out)
		}
	}
}

// run runs nft(8) in the namespace of the calling thread.
func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		netns.Require(t, err)
	}
	return string(out), err
}

func load(t *testing.T, script string) {
	t.Helper()
	if out, err := run(t, script, "-f", "-"); err != nil {
		t.Fatalf("nft -f: %v\n%s", err, out)
	}
}

// list returns nft(8)'s listing of the one table, without the values of counters.
func list(t *testing.T) string {
	t.Helper()
	out, err := run(t, "", "-s", "list", "table", "inet", "everything")
	if err != nil {
		t.Fatalf("nft list: %v\n%s", err, out)
	}
	return canonical(out)
}

var (
	continued = regexp.MustCompile(`,\n\s+`)
	elements  = regexp.MustCompile(`elements = \{ .* \}`)
)

// canonical writes a set's elements in one line, in a fixed order.
func canonical(table string) string {
	return elements.ReplaceAllStringFunc(continued.ReplaceAllString(table, ", "), func(list string) string {
		items := strings.Split(strings.TrimSuffix(strings.TrimPrefix(list, "elements = { "), " }"), ", ")
		slices.Sort(items)
		return fmt.Sprintf("elements = { %s }", strings.Join(items, ", "))
	})
}

// sorted puts the blocks of a table in order: the kernel lists what is younger further down.
func sorted(table string) string {
	blocks := strings.Split(strings.TrimSuffix(table, "}\n"), "\n\n")
	slices.SortFunc(blocks[1:], strings.Compare)
	for i := range blocks {
		blocks[i] = strings.TrimSuffix(blocks[i], "\n")
	}
	return strings.Join(blocks, "\n\n")
}

// Port ranges of several protocols become a rule for each protocol, wherever in the rule they are; everything else is
// one rule.
func TestRules(t *testing.T) {
	tcp, udp := nft.PortRange{Proto: nft.TCP, First: 80, Last: 90}, nft.PortRange{Proto: nft.UDP, First: 53, Last: 53}
	more, sctp := nft.PortRange{Proto: nft.TCP, First: 443, Last: 443},
		nft.PortRange{Proto: nft.SCTP, First: 0, Last: 65535}
	for _, test := range []struct {
		statements []nft.Statement
		want       []string
	}{
		{[]nft.Statement{accept()}, []string{"accept"}},
		{[]nft.Statement{nft.Ports{more, udp}, accept()},
			[]string{"meta l4proto . th dport { tcp . 443, udp . 53 } accept"}},
		{[]nft.Statement{nft.Ports{tcp, more}, accept()}, []string{"tcp dport { 80-90, 443 } accept"}},
		{[]nft.Statement{nft.CtReply{}, nft.Ports{tcp, more, udp, sctp}, accept()}, []string{
			"ct direction reply tcp dport { 80-90, 443 } accept", "ct direction reply udp dport 53 accept",
			"ct direction reply meta l4proto sctp accept",
		}},
	} {
		var got []string
		for _, r := range nft.Rules(test.statements...) {
			got = append(got, r.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
