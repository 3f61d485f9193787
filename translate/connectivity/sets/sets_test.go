// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/netpold/netpold/translate/policy"
)

// randomPorts returns a set of few ranges near the ends and in between, and a table of what is in it.
func randomPorts(r *rand.Rand) (Ports, map[portRange]bool) {
	var p Ports
	in := make(map[portRange]bool)
	for range r.IntN(5) {
		proto := WithPorts()[r.IntN(3)]
		first := []int{0, 1, 2, 79, 80, 81, 65533}[r.IntN(7)]
		last := min(65535, first+[]int{0, 0, 1, 2, 65535}[r.IntN(5)])
		p = p.Union(Ports{ranges: []portRange{{proto, uint16(first), uint16(last)}}})
		for _, at := range probes() {
			in[at] = in[at] || at.proto == proto && first <= int(at.first) && int(at.first) <= last
		}
	}
	if r.IntN(3) == 0 {
		p.others = true
	}
	in[portRange{proto: policy.ICMP}] = p.others
	return p, in
}

// probes are single ports at which sets of randomPorts may end, and ICMP.
func probes() []portRange {
	all := []portRange{{proto: policy.ICMP}}
	for _, proto := range WithPorts() {
		for _, at := range []uint16{0, 1, 2, 3, 4, 78, 79, 80, 81, 82, 83, 65532, 65533, 65534, 65535} {
			all = append(all, portRange{proto, at, at})
		}
	}
	return all
}

// TestPorts compares the operations on sets of ports with a table of ports. Each set has one form.
func TestPorts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	for range 3000 {
		p, inP := randomPorts(r)
		q, inQ := randomPorts(r)
		both, either, rest := p.Intersect(q), p.Union(q), p.Minus(q)
		for _, at := range probes() {
			a, b := inP[at], inQ[at]
			if p.Contains(at.proto, at.first) != a || both.Contains(at.proto, at.first) != (a && b) ||
				either.Contains(at.proto, at.first) != (a || b) || rest.Contains(at.proto, at.first) != (a && !b) {
				t.Fatalf("%s, %s: %s, %s, %s are wrong at %v", p, q, both, either, rest, at)
			}
		}
		if again := rest.Union(both); !again.Equal(p) || again.Key() != p.Key() {
			t.Fatalf("%s has another form: %s", p, again)
		}
	}
}

// TestPortsText shows sets as operators and programs get them.
func TestPortsText(t *testing.T) {
	tcp := func(first, last uint16) Ports { return Ports{ranges: []portRange{{policy.TCP, first, last}}} }
	for _, row := range []struct {
		ports      Ports
		text, json string
	}{
		{Ports{}, "none", `[]`},
		{Everything(), "all", `[{"protocol":"all"}]`},
		{tcp(80, 80).Union(tcp(8000, 8010)), "TCP 80, 8000-8010",
			`[{"protocol":"TCP","port":80},{"protocol":"TCP","port":8000,"endPort":8010}]`},
		{tcp(0, 65535).Union(Ports{ranges: []portRange{{policy.UDP, 53, 53}}}), "TCP any; UDP 53",
			`[{"protocol":"TCP"},{"protocol":"UDP","port":53}]`},
		{Everything().Minus(tcp(22, 22)), "all but TCP 22",
			`[{"protocol":"other"},{"protocol":"TCP","port":0,"endPort":21},` +
				`{"protocol":"TCP","port":23,"endPort":65535},{"protocol":"UDP"},{"protocol":"SCTP"}]`},
	} {
		text, err := json.Marshal(row.ports)
		if row.ports.String() != row.text || string(text) != row.json || err != nil {
			t.Errorf("%s, %s, %v; want %s, %s", row.ports, text, err, row.text, row.json)
		}
	}
}

// TestNetworks writes sets of addresses as an operator would, and splits them.
func TestNetworks(t *testing.T) {
	for _, row := range []struct{ cidr, except, text, prefixes string }{
		{"0.0.0.0/0", "", "0.0.0.0/0", "0.0.0.0/0"},
		{"10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.128.0.0/9"},
		{"10.0.0.0/30", "10.0.0.0/32", "10.0.0.1/32, 10.0.0.2/31", "10.0.0.1/32 10.0.0.2/31"},
		{"10.0.0.0/8", "10.1.0.0/16 10.255.0.0/16", "10.0.0.0/8 except 10.1.0.0/16, 10.255.0.0/16", ""},
		{"::/0", "fc00::/7", "::/0 except fc00::/7", ""},
		{"10.0.0.0/31", "10.0.0.0/32 10.0.0.1/32", "", ""},
		{"255.255.255.254/31", "255.255.255.255/32", "255.255.255.254/32", "255.255.255.254/32"},
	} {
		var holes []Span
		for text := range strings.FieldsSeq(row.except) {
			holes = append(holes, SpanOf(netip.MustParsePrefix(text)))
		}
		n := SpanOf(netip.MustParsePrefix(row.cidr)).Without(Union(holes...))
		if got := n.String(); got != row.text {
			t.Errorf("%s except %s: %q, want %q", row.cidr, row.except, got, row.text)
		}
		if row.prefixes != "" && strings.ReplaceAll(joinPrefixes(n.Prefixes()), ",", "") != row.prefixes {
			t.Errorf("%s except %s: %s, want %s", row.cidr, row.except, joinPrefixes(n.Prefixes()), row.prefixes)
		}
		for _, at := range []string{"10.0.0.0", "10.0.0.1", "10.128.0.0", "10.1.255.255", "255.255.255.255",
			"255.255.255.254", "fc00::", "fe00::"} {
			a := netip.MustParseAddr(at)
			want := netip.MustParsePrefix(row.cidr).Contains(a)
			for text := range strings.FieldsSeq(row.except) {
				want = want && !netip.MustParsePrefix(text).Contains(a)
			}
			if n.Contains(a) != want {
				t.Errorf("%s except %s: has %s: %t", row.cidr, row.except, a, !want)
			}
		}
	}
}

// Bundles list what they have room for, and say when it is not all.
func TestBundlesFull(t *testing.T) {
	for room, full := range map[int]bool{300: true, 410: false} {
		b := NewBundles[int]()
		b.Room = room
		for from := range 4 {
			for to := range 100 {
				b.Add(to%2+2*from, to)
			}
			b.EndRow(from)
		}
		each := make([][]int, 100)
		for i := range each {
			each[i] = []int{i}
		}
		if all := b.Expand(each); b.Full() != full || (len(all) < 8) != full {
			t.Errorf("room for %d: full is %t, %d of 8 bundles", room, b.Full(), len(all))
		}
	}
}
