// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
)

// parseFlow reads "10.0.0.1 -> 10.0.0.2 tcp/80"; ICMPv6 has its type in the port's place.
func parseFlow(t testing.TB, s string) trace.Packet {
	t.Helper()
	var src, dst, service string
	if _, err := fmt.Sscanf(s, "%s -> %s %s", &src, &dst, &service); err != nil {
		t.Fatalf("flow %q: %v", s, err)
	}
	f := trace.Packet{Src: addr(src), Dst: addr(dst)}
	name, number, _ := strings.Cut(service, "/")
	for _, proto := range []uint8{nft.ICMP, nft.TCP, nft.UDP, nft.ICMPv6, nft.SCTP} {
		if nft.ProtocolName(proto) == name {
			f.Proto = proto
		}
	}
	if _, err := fmt.Sscan(number, &f.DstPort); err != nil || f.Proto == 0 {
		t.Fatalf("flow %q: service %q", s, service)
	}
	if f.Proto == nft.ICMPv6 {
		f.ICMPType, f.DstPort = uint8(f.DstPort), 0
	}
	return f
}

// path is the chains of the rules that a flow matched, with the elements found.
func path(steps []trace.Step) string {
	var names []string
	for _, s := range steps {
		name := s.Chain
		if e := s.Element(); e != "" {
			name += "[" + e + "]"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// pods isolates 10.0.0.2 for egress, and 10.0.0.5 and fd00::5 for ingress.
func pods() *nft.Table {
	t := nft.NewTable("t", "")
	egress := t.Set("egress", nft.SetType{Family: nft.IPv4, Map: true}, "")
	egress.Want(key("10.0.0.2"), nft.Value{Verdict: nft.GotoChain("out")})
	t.SetChain(&nft.Chain{Name: "out", Rules: []nft.Rule{
		nft.R(nft.Ports{{Proto: nft.UDP, First: 53, Last: 53}, {Proto: nft.TCP, First: 8000, Last: 9000}}, accept()),
		nft.R(drop()),
	}})
	t.SetChain(&nft.Chain{Name: "forward-egress", Base: &nft.Base{Priority: -1}, Rules: []nft.Rule{
		nft.R(nft.CtState{nft.Established, nft.Related}, accept()),
		nft.R(nft.CtReply{}, accept()),
		nft.R(nft.LookupIn(nft.Source, egress)),
	}})
	ingress := &nft.Chain{Name: "forward-ingress", Base: &nft.Base{}}
	in := &nft.Chain{Name: "in"}
	for i, f := range nft.Families() {
		pod := []string{"10.0.0.5", "fd00::5"}[i]
		peer := []string{"10.0.0.2", "fd00::2"}[i]
		block := []string{"10.1.0.0/16", "fd01::/16"}[i]
		m := t.Set("ingress-"+f.String(), nft.SetType{Family: f, Map: true}, "")
		m.Want(key(pod), nft.Value{Verdict: nft.GotoChain("in"), Comment: "pod"})
		ports := t.Set("ports-"+f.String(), nft.SetType{Family: f, Fields: nft.AddrProtoPort}, "")
		ports.Want(nft.PortKey(addr(peer), nft.TCP, 8080), nft.Value{})
		blocks := t.Set("blocks-"+f.String(), nft.SetType{Family: f, Fields: nft.AddrRange, Map: true}, "")
		blocks.Want(span(block), nft.Value{Verdict: nft.JumpTo("web")})
		self := t.Set("self-"+f.String(), nft.SetType{Family: f, Fields: nft.AddrAddr}, "")
		self.Want(nft.PairKey(addr(pod), addr(pod)), nft.Value{})
		ingress.Rules = append(ingress.Rules, nft.R(nft.LookupIn(nft.Destination, m)))
		in.Rules = append(in.Rules,
			nft.R(nft.LookupIn(nft.Source, ports), accept()),
			nft.R(nft.LookupIn(nft.Source, blocks)),
			nft.R(nft.LookupIn(nft.Source, self), accept()))
	}
	in.Rules = append(in.Rules,
		nft.R(nft.NeighbourDiscovery{}, accept()),
		nft.R(nft.Limit{Rate: 1, Burst: 1}, nft.Log{Prefix: "in", Group: 1}),
		nft.R(nft.Counter{}, nft.Verdict{Kind: nft.Reject}))
	t.SetChain(in)
	t.SetChain(ingress)
	t.SetChain(&nft.Chain{Name: "web", Rules: []nft.Rule{nft.R(ports(nft.TCP, 80, 443), accept())}})
	return t
}

// TestTracePorts looks ports up in a set.
func TestTracePorts(t *testing.T) {
	table := nft.NewTable("t", "")
	set := table.Set("ports", nft.SetType{Fields: nft.PortInterval}, "")
	set.Want(nft.IntervalKey(80, 90), nft.Value{})
	set.Want(nft.IntervalKey(65535, 65535), nft.Value{})
	table.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.Lookup{Proto: nft.TCP, Set: "ports", Type: set.Type}, accept()),
		nft.R(drop()),
	}})
	for flow, want := range map[string]string{
		"tcp/79": "", "tcp/80": "80-90", "tcp/85": "80-90", "tcp/90": "80-90", "tcp/91": "", "tcp/65535": "65535",
		"udp/80": "", "icmp/80": "",
	} {
		trail, err := trace.Follow(table, parseFlow(t, "10.0.0.1 -> 10.0.0.2 "+flow))
		steps := trail.Steps
		if err != nil || len(steps) != 1 || steps[0].Element() != want {
			t.Errorf("%s: %v %v, want %q", flow, steps, err, want)
		}
	}
	table.DeleteSet("ports")
	if _, err := trace.Follow(table, parseFlow(t, "10.0.0.1 -> 10.0.0.2 tcp/80")); err == nil {
		t.Error("a set that is not there is no error")
	}
}

// TestTraceReturn follows the verdicts of a map of ports, in a chain that the packet does not come back to.
func TestTraceReturn(t *testing.T) {
	table := nft.NewTable("t", "")
	ports := table.Set("ports", nft.SetType{Fields: nft.PortInterval, Map: true}, "")
	ports.Want(nft.IntervalKey(1, 79), nft.Value{Verdict: nft.Verdict{Kind: nft.Return}})
	ports.Want(nft.IntervalKey(80, 80), nft.Value{Verdict: accept()})
	table.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.JumpTo("list")),
		nft.R(nft.Verdict{Kind: nft.Reject}),
	}})
	table.SetChain(&nft.Chain{Name: "list", Rules: []nft.Rule{nft.R(nft.GotoChain("class")), nft.R(accept())}})
	table.SetChain(&nft.Chain{Name: "class", Rules: []nft.Rule{
		nft.R(nft.Lookup{Proto: nft.TCP, Set: "ports", Type: ports.Type}),
		nft.R(nft.CtDNAT{}, accept()),
		nft.R(drop()),
	}})
	for flow, want := range map[string]string{
		"tcp/79": "reject with icmpx admin-prohibited", "tcp/80": "accept", "tcp/81": "drop", "udp/80": "drop",
	} {
		p := parseFlow(t, "10.0.0.1 -> 10.0.0.2 "+flow)
		trail, err := trace.Follow(table, p)
		if v := trail.Verdict; err != nil || v.String() != want {
			t.Errorf("%s: %v %v, want %s", flow, v, err, want)
		}
		p.DNAT = true
		trail, _ = trace.Follow(table, p)
		if v := trail.Verdict; want == "drop" && v.String() != "accept" {
			t.Errorf("%s, translated: %v", flow, v)
		}
	}
}

func TestTrace(t *testing.T) {
	table := pods()
	for _, row := range []struct{ flow, verdict, path string }{
		// Nobody is isolated.
		{"10.0.0.8 -> 10.0.0.9 tcp/1", "accept", ""},
		{"fd00::8 -> fd00::9 tcp/1", "accept", ""},
		// The first base chain.
		{"10.0.0.2 -> 10.0.0.9 udp/53", "accept", "forward-egress[10.0.0.2 : goto out] out"},
		{"10.0.0.2 -> 10.0.0.9 tcp/53", "drop", "forward-egress[10.0.0.2 : goto out] out"},
		{"10.0.0.2 -> 10.0.0.9 tcp/7999", "drop", "forward-egress[10.0.0.2 : goto out] out"},
		{"10.0.0.2 -> 10.0.0.9 tcp/8000", "accept", "forward-egress[10.0.0.2 : goto out] out"},
		{"10.0.0.2 -> 10.0.0.9 tcp/9000", "accept", "forward-egress[10.0.0.2 : goto out] out"},
		{"10.0.0.2 -> 10.0.0.9 tcp/9001", "drop", "forward-egress[10.0.0.2 : goto out] out"},
		// The second one still sees what the first accepts, but not what it drops.
		{"10.0.0.2 -> 10.0.0.5 tcp/8080", "accept",
			`forward-egress[10.0.0.2 : goto out] out forward-ingress[10.0.0.5 comment "pod" : goto in] in[10.0.0.2 ` +
				`. tcp . 8080]`},
		{"10.0.0.2 -> 10.0.0.5 tcp/8081", "reject with icmpx admin-prohibited",
			`forward-egress[10.0.0.2 : goto out] out forward-ingress[10.0.0.5 comment "pod" : goto in] in`},
		{"10.0.0.2 -> 10.0.0.5 tcp/80", "drop", "forward-egress[10.0.0.2 : goto out] out"},
		// The second base chain alone, in both families.
		{"10.0.0.5 -> 10.0.0.5 tcp/1", "accept",
			`forward-ingress[10.0.0.5 comment "pod" : goto in] in[10.0.0.5 . 10.0.0.5]`},
		{"fd00::2 -> fd00::5 tcp/8080", "accept",
			`forward-ingress[fd00::5 comment "pod" : goto in] in[fd00::2 . tcp . 8080]`},
		{"fd00::2 -> fd00::5 sctp/8080", "reject with icmpx admin-prohibited",
			`forward-ingress[fd00::5 comment "pod" : goto in] in`},
		{"fd00::5 -> fd00::5 tcp/1", "accept",
			`forward-ingress[fd00::5 comment "pod" : goto in] in[fd00::5 . fd00::5]`},
		{"fd00::2 -> fd00::5 ipv6-icmp/135", "accept", `forward-ingress[fd00::5 comment "pod" : goto in] in`},
		{"fd00::2 -> fd00::5 ipv6-icmp/128", "reject with icmpx admin-prohibited",
			`forward-ingress[fd00::5 comment "pod" : goto in] in`},
		// A jump comes back at the chain's end.
		{"10.1.2.3 -> 10.0.0.5 tcp/443", "accept",
			`forward-ingress[10.0.0.5 comment "pod" : goto in] in[10.1.0.0/16 : jump web] web`},
		{"10.1.2.3 -> 10.0.0.5 tcp/8080", "reject with icmpx admin-prohibited",
			`forward-ingress[10.0.0.5 comment "pod" : goto in] in[10.1.0.0/16 : jump web] in`},
		// An IPv4-mapped address is not the IPv4 address.
		{"::ffff:10.0.0.2 -> ::ffff:10.0.0.9 tcp/1", "accept", ""},
		{"::ffff:10.1.0.0 -> fd00::5 tcp/80", "reject with icmpx admin-prohibited",
			`forward-ingress[fd00::5 comment "pod" : goto in] in`},
	} {
		trail, err := trace.Follow(table, parseFlow(t, row.flow))
		steps, verdict := trail.Steps, trail.Verdict
		if err != nil || verdict.String() != row.verdict || path(steps) != row.path {
			t.Errorf("%s: %s by %s, %v\nwant %s by %s", row.flow, verdict, path(steps), err, row.verdict, row.path)
		}
	}
}

// TestTraceIntervals looks addresses up at the edges of intervals.
func TestTraceIntervals(t *testing.T) {
	table := nft.NewTable("t", "")
	base := &nft.Chain{Name: "base", Base: &nft.Base{}}
	for _, f := range nft.Families() {
		s := table.Set("s"+f.String(), nft.SetType{Family: f, Fields: nft.AddrRange}, "")
		for _, r := range map[nft.Family][][2]string{
			nft.IPv4: {
				{"0.0.0.0", "0.0.0.0"}, {"10.0.0.0", "10.0.0.255"}, {"10.0.1.0", "10.0.1.9"},
				{"10.0.1.11", "10.0.1.11"},
				{"255.255.255.0", "255.255.255.255"},
			},
			nft.IPv6: {
				{"::", "::1"}, {"::fffe:0:0", "::fffe:ffff:ffff"}, {"::ffff:10.0.0.0", "::ffff:10.0.0.255"},
				{"fd00::", "fd00::ffff"},
				{"ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
			},
		}[f] {
			s.Want(nft.PairKey(addr(r[0]), addr(r[1])), nft.Value{})
		}
		base.Rules = append(base.Rules, nft.R(nft.LookupIn(nft.Source, s), drop()))
	}
	table.SetChain(base)
	for _, row := range []struct{ addr, found string }{
		{"0.0.0.0", "0.0.0.0"},
		{"0.0.0.1", ""},
		{"9.255.255.255", ""},
		{"10.0.0.0", "10.0.0.0/24"},
		{"10.0.0.255", "10.0.0.0/24"},
		{"10.0.1.0", "10.0.1.0-10.0.1.9"},
		{"10.0.1.9", "10.0.1.0-10.0.1.9"},
		{"10.0.1.10", ""},
		{"10.0.1.11", "10.0.1.11"},
		{"10.0.1.12", ""},
		{"255.255.254.255", ""},
		{"255.255.255.0", "255.255.255.0/24"},
		{"255.255.255.255", "255.255.255.0/24"},
		{"::", "::/127"},
		{"::2", ""},
		{"::a00:1", ""},
		{"::fffd:ffff:ffff", ""},
		{"::fffe:0:0", "::fffe:0:0/96"},
		{"::fffe:ffff:ffff", "::fffe:0:0/96"},
		{"::ffff:0.0.0.0", ""}, // 0.0.0.0 is there, 10.0.1.0 too: not in this family
		{"::ffff:10.0.0.0", "::ffff:10.0.0.0/120"},
		{"::ffff:10.0.0.255", "::ffff:10.0.0.0/120"},
		{"::ffff:10.0.1.0", ""},
		{"fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"fd00::", "fd00::/112"},
		{"fd00::ffff", "fd00::/112"},
		{"fd00::1:0", ""},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff::/16"},
	} {
		f := trace.Packet{Src: addr(row.addr), Dst: addr(row.addr), Proto: nft.TCP}
		trail, err := trace.Follow(table, f)
		steps, verdict := trail.Steps, trail.Verdict
		found := ""
		if len(steps) > 0 {
			found = steps[0].Element()
		}
		if denied := verdict == drop(); err != nil || found != row.found || denied != (row.found != "") {
			t.Errorf("%s: %s, found %q, want %q; %v", row.addr, verdict, found, row.found, err)
		}
	}
}

// rulesOf makes a table of chains that are one rule or several; "base" is the base chain.
func rulesOf(chains map[string][]nft.Rule) *nft.Table {
	t := nft.NewTable("t", "")
	for name, rules := range chains {
		c := &nft.Chain{Name: name, Rules: rules}
		if name == "base" {
			c.Base = &nft.Base{}
		}
		t.SetChain(c)
	}
	return t
}

// TestTraceReturns: where evaluation goes on at a chain's end.
func TestTraceReturns(t *testing.T) {
	type chains = map[string][]nft.Rule
	jump, goTo := nft.R(nft.JumpTo("a")), nft.R(nft.GotoChain("a"))
	denied, noMatch := nft.R(drop()), nft.R(nft.CtReply{}, drop())
	for _, row := range []struct {
		name          string
		chains        chains
		verdict, path string
	}{
		{"the end of the base chain", chains{"base": {}}, "accept", ""},
		{"jump comes back", chains{"base": {jump, denied}, "a": {}}, "drop", "base base"},
		{"goto does not", chains{"base": {goTo, denied}, "a": {}}, "accept", "base"},
		{"jump, jump", chains{"base": {jump, denied}, "a": {nft.R(nft.JumpTo("b")), nft.R(accept())}, "b": {}},
			"accept", "base a a"},
		{"jump, goto", chains{"base": {jump, denied}, "a": {nft.R(nft.GotoChain("b")), nft.R(accept())}, "b": {}},
			"drop", "base a base"},
		{"goto, jump", chains{"base": {goTo, denied}, "a": {nft.R(nft.JumpTo("b")), nft.R(drop())}, "b": {}},
			"drop", "base a a"},
		{"goto, goto", chains{"base": {goTo, denied}, "a": {nft.R(nft.GotoChain("b")), denied}, "b": {}},
			"accept", "base a"},
		{"accept ends all chains", chains{"base": {jump, denied}, "a": {nft.R(accept())}}, "accept", "base a"},
		{"a rule that does not match", chains{"base": {noMatch}}, "accept", ""},
		{"continue is no verdict", chains{"base": {nft.R(nft.Verdict{}), denied}}, "drop", "base"},
		{"reset", chains{"base": {nft.R(nft.Verdict{Kind: nft.Reset}), denied}}, "reject with tcp reset", "base"},
	} {
		trail, err := trace.Follow(rulesOf(row.chains), parseFlow(t, "10.0.0.1 -> 10.0.0.2 tcp/80"))
		steps, verdict := trail.Steps, trail.Verdict
		if err != nil || verdict.String() != row.verdict || path(steps) != row.path {
			t.Errorf("%s: %s by %s, %v; want %s by %s", row.name, verdict, path(steps), err, row.verdict, row.path)
		}
	}
}

// TestTraceContinue: an element with the verdict continue goes on in the same rule, and a later rule does not report
// what an earlier one found.
func TestTraceContinue(t *testing.T) {
	table := nft.NewTable("t", "")
	m := table.Set("m", nft.SetType{Family: nft.IPv4, Map: true}, "")
	m.Want(key("10.0.0.1"), nft.Value{})
	table.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.LookupIn(nft.Source, m), nft.CtReply{}, accept()),
		nft.R(nft.LookupIn(nft.Destination, m), accept()),
		nft.R(drop()),
	}})
	for _, row := range []struct{ flow, verdict, path string }{
		{"10.0.0.1 -> 10.0.0.2 tcp/80", "drop", "base"},
		{"10.0.0.2 -> 10.0.0.1 tcp/80", "accept", "base[10.0.0.1 : continue]"},
	} {
		trail, err := trace.Follow(table, parseFlow(t, row.flow))
		steps, verdict := trail.Steps, trail.Verdict
		if err != nil || verdict.String() != row.verdict || path(steps) != row.path {
			t.Errorf("%s: %s by %s, %v; want %s by %s", row.flow, verdict, path(steps), err, row.verdict, row.path)
		}
	}
}

func TestTraceErrors(t *testing.T) {
	type chains = map[string][]nft.Rule
	set := nft.R(nft.Lookup{Set: "missing", Type: nft.SetType{Family: nft.IPv4}}, accept())
	vmap := nft.R(nft.Lookup{Set: "set", Type: nft.SetType{Family: nft.IPv4, Map: true}})
	for _, row := range []struct {
		chains chains
		want   string
	}{
		{chains{"base": {set}}, "no set missing of type ipv4_addr"},
		{chains{"base": {vmap}}, "no map set of type ipv4_addr : verdict"},
		{chains{"base": {nft.R(nft.JumpTo("missing"))}}, "chain base: no chain missing"},
		{chains{"base": {nft.R(nft.GotoChain("a"))}, "a": {nft.R(nft.JumpTo("missing"))}}, "chain a: no chain missing"},
		{chains{"base": {nft.R(nft.JumpTo("a"))}, "a": {nft.R(nft.JumpTo("a"))}}, "chain a: more than 16 chains deep"},
	} {
		table := rulesOf(row.chains)
		table.Set("set", nft.SetType{Family: nft.IPv4}, "")
		trail, err := trace.Follow(table, parseFlow(t, "10.0.0.1 -> 10.0.0.2 tcp/80"))
		steps, verdict := trail.Steps, trail.Verdict
		if err == nil || err.Error() != row.want || verdict.Kind == nft.Accept {
			t.Errorf("%s by %s, %v; want %s", verdict, path(steps), err, row.want)
		}
	}
}

// ladder is n jumps or gotos, one below the other, and an accept.
func ladder(n int, down func(string) nft.Verdict) *nft.Table {
	chains := map[string][]nft.Rule{fmt.Sprint("c", n): {nft.R(accept())}}
	name := "base"
	for i := range n {
		next := fmt.Sprint("c", i+1)
		chains[name] = []nft.Rule{nft.R(down(next)), nft.R(drop())}
		name = next
	}
	return rulesOf(chains)
}

// TestTraceDepth: chains may be as deep as in the kernel, and not deeper; TestNftDepth tests the kernel.
func TestTraceDepth(t *testing.T) {
	for _, down := range []func(string) nft.Verdict{nft.JumpTo, nft.GotoChain} {
		for n := 1; n < 20; n++ {
			trail, err := trace.Follow(ladder(n, down), parseFlow(t, "10.0.0.1 -> 10.0.0.2 tcp/80"))
			verdict := trail.Verdict
			switch deep := n > maxLadder; {
			case deep && err == nil:
				t.Errorf("%d below the other: %s", n, verdict)
			case !deep && (err != nil || verdict != accept()):
				t.Errorf("%d below the other: %s, %v", n, verdict, err)
			}
		}
	}
}

// maxLadder is how many jumps the kernel lets follow each other.
const maxLadder = 15

// TestTraceNeighbourDiscovery: `icmpv6 type` matches only IPv6 packets: nft(8) implies `meta nfproto ipv6`.
func TestTraceNeighbourDiscovery(t *testing.T) {
	table := rulesOf(map[string][]nft.Rule{"base": {nft.R(nft.NeighbourDiscovery{}, accept()), nft.R(drop())}})
	for _, row := range []struct {
		addr  string
		proto uint8
		typ   uint8
		want  nft.VerdictKind
	}{
		{"fd00::1", nft.ICMPv6, 132, nft.Drop},
		{"fd00::1", nft.ICMPv6, 133, nft.Accept},
		{"fd00::1", nft.ICMPv6, 137, nft.Accept},
		{"fd00::1", nft.ICMPv6, 138, nft.Drop},
		{"fd00::1", nft.ICMP, 135, nft.Drop},
		{"10.0.0.1", nft.ICMPv6, 135, nft.Drop},
	} {
		a := addr(row.addr)
		trail, err := trace.Follow(table, trace.Packet{Src: a, Dst: a, Proto: row.proto, ICMPType: row.typ})
		got := trail.Verdict
		if err != nil || got.Kind != row.want {
			t.Errorf("%s, protocol %d, type %d: %s, %v", row.addr, row.proto, row.typ, got, err)
		}
	}
}
