// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// cases are tables that together have everything in the model.
func cases() map[string]*nft.Table {
	all := map[string]*nft.Table{
		"empty":   nft.NewTable("t", ""),
		"comment": nft.NewTable("t", `a "comment" with ünlauts`),
		"names":   longNames(),
		"sets":    sets(),
		"sample":  sample(),
	}
	for name, statements := range rules() {
		all["rule "+name] = ruleTable(statements)
	}
	return all
}

// ruleTable returns a table with one rule, and all that it may refer to.
func ruleTable(statements []nft.Statement) *nft.Table {
	t := nft.NewTable("t", "")
	t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(statements...)}})
	t.SetChain(&nft.Chain{Name: "other"})
	declareSets(t)
	return t
}

// setTypes has each type of set once.
func setTypes() []nft.SetType {
	var types []nft.SetType
	for _, f := range nft.Families() {
		for _, fields := range []nft.Fields{nft.Addr, nft.AddrRange, nft.AddrAddr, nft.AddrProtoPort} {
			for _, isMap := range []bool{false, true} {
				for _, counter := range []bool{false, true} {
					types = append(types, nft.SetType{Family: f, Fields: fields, Map: isMap, Counter: counter})
				}
			}
		}
	}
	for _, fields := range []nft.Fields{nft.PortInterval, nft.Port} {
		types = append(types, nft.SetType{Fields: fields}, nft.SetType{Fields: fields, Map: true})
	}
	return append(types, nft.SetType{Fields: nft.Port, Map: true, Size: 10_000},
		nft.SetType{Family: nft.IPv4, Map: true, Size: 10_000})
}

func setName(t nft.SetType) string {
	name := fmt.Sprintf("s%s-%d", t.Family, t.Fields)
	if t.Map {
		name += "-map"
	}
	if t.Counter {
		name += "-counter"
	}
	if t.Size > 0 {
		name += "-sized"
	}
	return name
}

func declareSets(t *nft.Table) {
	for _, typ := range setTypes() {
		t.Set(setName(typ), typ, "")
	}
	for _, f := range nft.Families() {
		t.Set(flowSet(f).Set, flowSet(f).Type, "set of packets")
	}
}

// flowSet returns the update of the dynamic set of a family that declareSets made.
func flowSet(f nft.Family) nft.Update {
	return nft.Update{Set: "flows-" + f.String(), Type: nft.SetType{Family: f, Fields: nft.Flow,
		Dynamic: nft.Dynamic{Max: 1000, Timeout: 3600}}}
}

// sets has every type of set, with elements at the edges of the address space.
func sets() *nft.Table {
	t := nft.NewTable("t", "")
	t.SetChain(&nft.Chain{Name: "other"})
	verdicts := []nft.Verdict{{Kind: nft.Accept}, {Kind: nft.Drop}, nft.JumpTo("other"), nft.GotoChain("other"), {},
		{Kind: nft.Return}}
	for _, typ := range setTypes() {
		s := t.Set(setName(typ), typ, "set of "+setName(typ))
		for i, k := range keys(typ) {
			v := nft.Value{Comment: strings.Repeat("c", i*25)}
			if typ.Map {
				v.Verdict = verdicts[i%len(verdicts)]
			}
			s.Want(k, v)
		}
	}
	return t
}

// keys returns some keys for a set of a type.
func keys(t nft.SetType) []nft.Key {
	a := [...]string{"0.0.0.0", "10.0.0.1", "10.0.0.2", "255.255.255.254", "255.255.255.255"}
	if t.Family == nft.IPv6 {
		a = [...]string{"::", "fd00::1", "fd00::2", "ffff::fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
	}
	var keys []nft.Key
	switch t.Fields {
	case nft.Port:
		keys = append(keys, nft.Key{Port: 0}, nft.Key{Port: 80}, nft.Key{Port: 81}, nft.Key{Port: 65535})
	case nft.PortInterval:
		keys = append(keys, nft.IntervalKey(0, 0), nft.IntervalKey(53, 53), nft.IntervalKey(80, 90),
			nft.IntervalKey(92, 92), nft.IntervalKey(65534, 65535))
	case nft.AddrRange:
		keys = append(keys,
			nft.PairKey(addr(a[0]), addr(a[0])), nft.PairKey(addr(a[1]), addr(a[1])),
			nft.PairKey(addr(a[2]), addr(a[3])), nft.PairKey(addr(a[4]), addr(a[4])))
		if t.Family == nft.IPv6 {
			keys[3].Addr = addr("ffff::ffff").As16()
		}
	case nft.AddrAddr:
		for i := range a {
			keys = append(keys, nft.PairKey(addr(a[i]), addr(a[len(a)-1-i])))
		}
	case nft.AddrProtoPort:
		for i, proto := range []uint8{nft.TCP, nft.UDP, nft.SCTP, nft.ICMP, 255} {
			keys = append(keys, nft.PortKey(addr(a[i]), proto, uint16(i*16383)))
		}
	default:
		for _, s := range a {
			keys = append(keys, nft.AddrKey(addr(s)))
		}
	}
	return keys
}

// rules returns the statements of a rule for each form that a statement can take.
func rules() map[string][]nft.Statement {
	accept := nft.Verdict{Kind: nft.Accept}
	all := map[string][]nft.Statement{
		"accept":      {accept},
		"drop":        {nft.Verdict{Kind: nft.Drop}},
		"jump":        {nft.JumpTo("other")},
		"goto":        {nft.GotoChain("other")},
		"reject":      {nft.Verdict{Kind: nft.Reject}},
		"reset":       {nft.Ports{ports(nft.TCP, 0, 65535)}, nft.Verdict{Kind: nft.Reset}},
		"reset port":  {nft.Ports{ports(nft.TCP, 80, 80)}, nft.Verdict{Kind: nft.Reset}},
		"reset bare":  {nft.Verdict{Kind: nft.Reset}},
		"return":      {nft.Verdict{Kind: nft.Return}},
		"dnat":        {nft.CtDNAT{}, accept},
		"established": {nft.CtState{nft.Established}, accept},
		"est,related": {nft.CtState{nft.Established, nft.Related}, accept},
		"new":         {nft.CtState{nft.New, nft.Untracked}, nft.JumpTo("other")},
		"opening":     {nft.Opening{}, nft.Verdict{Kind: nft.Return}},
		"family":      {nft.OfFamily{Family: nft.IPv6}, accept},
		"not in":      {nft.AddrIn{Prefix: netip.MustParsePrefix("10.1.2.0/23"), Not: true}, accept},
		"not in a set": {nft.Lookup{Set: setName(nft.SetType{Family: nft.IPv4}), Type: nft.SetType{Family: nft.IPv4},
			Not: true}, accept},
		"reply":       {nft.CtState{nft.Established}, nft.CtReply{}, accept},
		"nd":          {nft.NeighbourDiscovery{}, accept},
		"limit":       {nft.Limit{Rate: 10, Burst: 20}, nft.Log{Prefix: "p", Group: 86, Snaplen: 128}},
		"limit small": {nft.Limit{Rate: 1, Burst: 5}},
		"log":         {nft.Log{Prefix: strings.Repeat("p", 127), Group: 65535, Snaplen: 64}},
		"log strange": {nft.Log{Prefix: `a "b" ü`, Group: 1, Snaplen: 128}},
		"counter":     {nft.Counter{}, nft.Verdict{Kind: nft.Drop}},
		"prefix":      {nft.AddrIn{Side: nft.Destination, Prefix: netip.MustParsePrefix("10.1.0.0/17")}, accept},
		"prefix ipv6": {nft.AddrIn{Prefix: netip.MustParsePrefix("fd00:1::/57")}, accept},
		"address":     {nft.AddrIn{Prefix: netip.MustParsePrefix("10.1.2.3/32")}, accept},
		"link":        {nft.LinkName{Name: "lo"}, accept},
		"links":       {nft.LinkName{Side: nft.Destination, Name: "veth*"}, accept},
		"local":       {nft.AddrType{Side: nft.Destination, Kind: nft.Local}, accept},
		"broadcast":   {nft.AddrType{Side: nft.Destination, Kind: nft.Broadcast}, accept},
		"multicast":   {nft.AddrType{Kind: nft.Multicast}, accept},
		"two lookups": {lookup(nft.Source, nft.SetType{Family: nft.IPv4}),
			lookup(nft.Destination, nft.SetType{Family: nft.IPv4}), accept},
		"lookup ports": {lookup(nft.Source, nft.SetType{Family: nft.IPv6}), nft.Ports{ports(nft.TCP, 80, 80)}, accept},
		"ports lookup": {nft.Ports{ports(nft.TCP, 80, 80), ports(nft.TCP, 90, 90)},
			lookup(nft.Source, nft.SetType{Family: nft.IPv6}), accept},
	}
	for _, f := range nft.Families() {
		with, without := flowSet(f), flowSet(f)
		without.Portless = true
		all["update "+f.String()] = []nft.Statement{with, nft.Verdict{Kind: nft.Return}}
		all["update portless "+f.String()] = []nft.Statement{without, nft.Verdict{Kind: nft.Return}}
	}
	for _, typ := range setTypes() {
		if typ.Fields == nft.PortInterval || typ.Fields == nft.Port {
			s := []nft.Statement{nft.Lookup{Proto: nft.UDP, Set: setName(typ), Type: typ}}
			if !typ.Map {
				s = append(s, accept)
			}
			all["lookup "+setName(typ)] = s
			continue
		}
		for _, side := range []nft.Side{nft.Source, nft.Destination} {
			s := []nft.Statement{lookup(side, typ)}
			if !typ.Map {
				s = append(s, accept)
			}
			all[fmt.Sprintf("lookup %d %s", side, setName(typ))] = s
		}
	}
	for name, p := range portMatches() {
		for i, r := range nft.Rules(p, accept) {
			all[fmt.Sprintf("ports %s %d", name, i)] = r.Statements
		}
	}
	return all
}

// lookup looks up in the set of a type that declareSets made.
func lookup(side nft.Side, t nft.SetType) nft.Lookup {
	return nft.Lookup{Side: side, Set: setName(t), Type: t}
}

func ports(proto uint8, first, last uint16) nft.PortRange {
	return nft.PortRange{Proto: proto, First: first, Last: last}
}

// portMatches returns a match of ports for each form that it can take.
func portMatches() map[string]nft.Ports {
	const tcp, udp, sctp = nft.TCP, nft.UDP, nft.SCTP
	return map[string]nft.Ports{
		"all tcp":         {ports(tcp, 0, 65535)},
		"all sctp":        {ports(sctp, 0, 65535)},
		"80":              {ports(tcp, 80, 80)},
		"0":               {ports(udp, 0, 0)},
		"range":           {ports(udp, 80, 90)},
		"range to top":    {ports(udp, 80, 65535)},
		"range from 0":    {ports(sctp, 0, 90)},
		"two":             {ports(tcp, 80, 80), ports(tcp, 443, 443)},
		"two adjacent":    {ports(tcp, 80, 80), ports(tcp, 81, 81)},
		"ranges":          {ports(tcp, 0, 0), ports(tcp, 80, 90), ports(tcp, 443, 443), ports(tcp, 65535, 65535)},
		"ranges adj":      {ports(tcp, 0, 79), ports(tcp, 80, 90), ports(tcp, 92, 92), ports(tcp, 93, 65535)},
		"ranges to whole": {ports(tcp, 0, 79), ports(tcp, 80, 65535)},
		"mixed":           {ports(tcp, 80, 80), ports(udp, 53, 53), ports(sctp, 90, 90)},
		"mixed ranges":    {ports(tcp, 80, 90), ports(udp, 53, 53), ports(sctp, 0, 90)},
		"mixed adjacent":  {ports(tcp, 80, 90), ports(tcp, 91, 91), ports(udp, 53, 53)},
		"mixed whole":     {ports(tcp, 0, 65535), ports(udp, 53, 53)},
		"mixed wholes":    {ports(tcp, 0, 65535), ports(udp, 0, 65535), ports(sctp, 0, 65535)},
	}
}

// longNames has names and comments of the greatest length.
func longNames() *nft.Table {
	name := func(first string) string { return first + strings.Repeat("n", 127-len(first)) }
	comment := strings.Repeat("c", nft.MaxComment)
	t := nft.NewTable("t", comment)
	other := nft.Chain{Name: name("other"), Comment: comment, Rules: []nft.Rule{{Comment: comment}}}
	other.Rules[0].Statements = []nft.Statement{nft.Counter{}}
	t.SetChain(&other)
	typ := nft.SetType{Family: nft.IPv6, Fields: nft.AddrRange, Map: true, Counter: true}
	m := t.Set(name("map"), typ, comment+"more")
	m.Want(span("fd00::/8"), nft.Value{Verdict: nft.GotoChain(other.Name), Comment: comment})
	t.SetChain(&nft.Chain{Name: name("chain-a/b.c_d"), Rules: []nft.Rule{nft.R(nft.LookupIn(nft.Source, m))}})
	return t
}

// sample is a table such as netpold writes.
func sample() *nft.Table {
	t := nft.NewTable("netpold", "NetworkPolicy on node worker-1, written by netpold; manual changes are undone")
	v4, ranges := nft.SetType{Family: nft.IPv4, Map: true},
		nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange, Map: true}
	pods := t.Set("ingress-pods-4", v4, "")
	chain := "ingress-7F3A9C2Q-default/test-network-policy"
	pods.Want(nft.AddrKey(addr("10.244.1.5")), nft.Value{Verdict: nft.GotoChain(chain), Comment: "default/db-0"})
	blocks := t.Set("ingress-7F3A9C2Q-blocks-4", ranges, "")
	blocks.Want(span("172.17.0.0/24"), verdict(nft.JumpTo("ports-QQ12")))
	blocks.Want(nft.PairKey(addr("172.17.2.0"), addr("172.17.255.255")), verdict(nft.JumpTo("ports-QQ12")))
	accept := nft.Verdict{Kind: nft.Accept}
	for i, name := range []string{"forward-egress", "forward-ingress"} {
		t.SetChain(&nft.Chain{Name: name, Base: &nft.Base{Priority: i - 1}, Rules: []nft.Rule{
			nft.R(nft.CtState{nft.Established, nft.Related}, accept),
			nft.R(nft.NeighbourDiscovery{}, accept),
			nft.R(nft.LookupIn(nft.Destination, pods)),
		}})
	}
	t.SetChain(&nft.Chain{Name: "ports-QQ12", Rules: []nft.Rule{nft.R(nft.Ports{ports(nft.TCP, 6379, 6379)}, accept)}})
	t.SetChain(&nft.Chain{Name: chain, Comment: "1 pod; default/test-network-policy", Rules: []nft.Rule{
		nft.R(nft.LookupIn(nft.Source, blocks)),
		{Comment: "denied", Statements: []nft.Statement{nft.Limit{Rate: 10, Burst: 20},
			nft.Log{Prefix: "i 7F3A9C2Q", Group: 86, Snaplen: 128}}},
		nft.R(nft.Counter{}, nft.Verdict{Kind: nft.Drop}),
	}})
	return t
}

// The kernel has the same after Apply as after `nft -f` of the table's text.
func TestApplyIsWhatNftLoads(t *testing.T) {
	for name, table := range cases() {
		t.Run(name, func(t *testing.T) {
			netns.Enter(t)
			netns.NFT(t, table.String(), "-f", "-")
			want := list(t, table.Name)

			netns.Enter(t)
			apply(t, open(t, kernel.Config{}), table)
			if got := list(t, table.Name); got != want {
				t.Errorf("Apply made\n%s\nnft -f made\n%s\nof\n%s", got, want, table)
			}
		})
	}
}

// The tables of the other tests have every kind of statement, so that a new one in the model cannot be forgotten here.
func TestRulesHaveEveryStatement(t *testing.T) {
	tested := make(map[string]bool)
	for _, statements := range rules() {
		for _, s := range statements {
			tested[strings.TrimPrefix(fmt.Sprintf("%T", s), "nft.")] = true
		}
	}
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	// the method that makes a type a statement
	evaluated := regexp.MustCompile(`(?m)^func \((?:\w+ )?(\w+)\) statement\(`)
	found := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range evaluated.FindAllStringSubmatch(string(source), -1) {
			found++
			if !tested[m[1]] {
				t.Errorf("no rule has a statement of type nft.%s", m[1])
			}
		}
	}
	if found == 0 {
		t.Error("found no statements")
	}
}

// A rule compiles to the same expressions and registers as with nft(8).
func TestExpressionsAreThoseOfNft(t *testing.T) {
	for name, statements := range rules() {
		t.Run(name, func(t *testing.T) {
			table := ruleTable(statements)
			netns.Enter(t)
			netns.NFT(t, table.String(), "-f", "-")
			want := expressions(t)

			netns.Enter(t)
			apply(t, open(t, kernel.Config{}), table)
			if got := expressions(t); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// expressions returns the expressions of table t's rules. It leaves out one of nft(8)'s that does nothing: changing the
// byte order of a single byte.
func expressions(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(netns.NFT(t, "", "--debug=netlink", "list", "table", "inet", "t")) {
		if strings.HasPrefix(line, "  [ ") && !strings.HasPrefix(line, "  [ byteorder") {
			b.WriteString(line)
		}
	}
	return b.String()
}
