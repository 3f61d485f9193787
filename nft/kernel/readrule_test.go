// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// Every form of a rule is read back as itself, and as no other.
func TestRulesAreCompared(t *testing.T) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	table.SetChain(&nft.Chain{Name: "other"})
	declareSets(table)
	all := rules()
	for name, statements := range all {
		table.SetChain(&nft.Chain{Name: name, Rules: []nft.Rule{nft.R(nft.Counter{}), nft.R(statements...)}})
	}
	apply(t, c, table)
	equal := map[string]string{"reset": "reset bare", "reset bare": "reset"} // of TCP, either way
	for name := range all {
		for wanted, statements := range all {
			want := nft.Chain{Name: name, Rules: []nft.Rule{nft.R(nft.Counter{}), nft.R(statements...)}}
			got, err := c.Rules(t.Context(), "t", &want)
			if err != nil || len(got) != 2 || !got[0].Same || got[1].Handle <= got[0].Handle {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			text := nft.R(all[name]...).String()
			if same := text == want.Rules[1].String() || equal[name] == wanted; got[1].Same != same {
				t.Errorf("the rule %q is said to be %q: %t", name, wanted, got[1].Same)
			}
		}
	}
}

// Changes that nft(8) makes to a rule, or around it, are noticed.
func TestRulesAreOthers(t *testing.T) {
	accept := nft.Verdict{Kind: nft.Accept}
	want := nft.Chain{Name: "c", Rules: []nft.Rule{
		nft.R(nft.Ports{ports(nft.TCP, 80, 80), ports(nft.TCP, 443, 443)}, accept),
		nft.R(nft.Counter{}, nft.Verdict{Kind: nft.Drop}),
	}}
	const first, second = "tcp dport { 80, 443 } accept", "counter drop"
	for _, test := range []struct {
		rules []string
		same  string // of each rule
	}{
		{[]string{first, second}, "[true true]"},
		{[]string{first, "counter packets 7 bytes 700 drop"}, "[true true]"},
		{[]string{first + ` comment "some"`, second}, "[true true]"},
		{[]string{"tcp dport { 80, 444 } accept", second}, "[false true]"},
		{[]string{"tcp dport { 80, 443, 444 } accept", second}, "[false true]"},
		{[]string{"tcp dport != { 80, 443 } accept", second}, "[false true]"},
		{[]string{"tcp sport { 80, 443 } accept", second}, "[false true]"},
		{[]string{"udp dport { 80, 443 } accept", second}, "[false true]"},
		{[]string{"tcp dport { 80, 443 } drop", second}, "[false true]"},
		{[]string{"tcp dport { 80, 443 } counter accept", second}, "[false true]"},
		{[]string{"tcp dport 80 accept", second}, "[false true]"},
		{[]string{first, "counter accept"}, "[true false]"},
		{[]string{first, "counter goto other"}, "[true false]"},
		{[]string{first, "drop"}, "[true false]"},
		{[]string{second, first}, "[false false]"},
		{[]string{first}, "[true]"},
		{[]string{"accept", first, second}, "[false false false]"},
		{nil, "[]"},
	} {
		t.Run(fmt.Sprint(test.rules), func(t *testing.T) {
			netns.Enter(t)
			script := "add table inet t; add chain inet t c; add chain inet t other"
			for _, r := range test.rules {
				script += "; add rule inet t c " + r
			}
			netns.NFT(t, script, "-f", "-")
			held, err := open(t, kernel.Config{}).Rules(t.Context(), "t", &want)
			if err != nil {
				t.Fatal(err)
			}
			same := make([]bool, len(held))
			for i := range held {
				same[i] = held[i].Same
			}
			if got := fmt.Sprint(same); got != test.same {
				t.Errorf("got %s, want %s", got, test.same)
			}
		})
	}
}

// In a set of any type, each element is found by its key, intervals by any key in them, and nothing else is found.
func TestElement(t *testing.T) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), sets()
	apply(t, c, table)
	for _, s := range table.Sets() {
		for _, k := range probes(s) {
			got, err := c.Element(t.Context(), "t", s, k)
			i := slices.IndexFunc(s.Elements(), func(e nft.Element) bool { return s.Type.Finds(k, e.Key) })
			switch {
			case i < 0 && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("%s: %s, which is not there: %+v, %v", s.Name, fmt.Sprint(k), got, err)
			case i >= 0 && (err != nil || got.Element != s.Elements()[i]):
				t.Errorf("%s: %s: %+v, %v, want %+v", s.Name, fmt.Sprint(k), got, err, s.Elements()[i])
			}
		}
	}
	missing := table.Sets()[0]
	for _, table := range []string{"t", "missing"} {
		other := nft.NewTable("", "").Set("missing", missing.Type, "")
		if _, err := c.Element(t.Context(), table, other, keys(missing.Type)[0]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without the set: %v", err)
		}
	}
}

// probes returns the keys of a set, and, for intervals, keys in them and next to them.
func probes(s *nft.Set) []nft.Key {
	found := make(map[nft.Key]bool)
	for _, e := range s.Elements() {
		k := e.Key
		switch s.Type.Fields {
		case nft.AddrRange:
			for _, end := range [][16]byte{k.Addr, k.To} {
				a := netip.AddrFrom16(end)
				if s.Type.Family == nft.IPv4 {
					a = a.Unmap()
				}
				for _, near := range []netip.Addr{a.Prev(), a, a.Next()} {
					if near.IsValid() {
						found[nft.AddrKey(near)] = true
					}
				}
			}
		case nft.PortInterval:
			for _, p := range []uint16{k.Port, k.Last} {
				found[nft.Key{Port: p}], found[nft.Key{Port: p - 1}], found[nft.Key{Port: p + 1}] = true, true, true
			}
		case nft.Port:
			found[k], found[nft.Key{Port: k.Port ^ 4}] = true, true
		default:
			found[k] = true
			k.Addr[15] ^= 4
			found[k] = true
		}
	}
	return slices.Collect(maps.Keys(found))
}

// Intervals of any length, adjacent or not, are distinguished by the keys in them.
func TestElementOfIntervals(t *testing.T) {
	netns.Enter(t)
	c, table, random := open(t, kernel.Config{}), nft.NewTable("t", ""), rand.New(rand.NewPCG(1, 2))
	s := table.Set("s", nft.SetType{Fields: nft.PortInterval}, "")
	wanted := make(map[uint16]nft.Key) // by port
	for first := 0; first < 2000; {
		last := first + random.IntN(3)
		k := nft.IntervalKey(uint16(first), uint16(last))
		s.Want(k, nft.Value{})
		for port := first; port <= last; port++ {
			wanted[uint16(port)] = k
		}
		first = last + 1 + random.IntN(3)
	}
	s.Want(nft.IntervalKey(65535, 65535), nft.Value{})
	wanted[65535] = nft.IntervalKey(65535, 65535)
	apply(t, c, table)
	for port := range wanted {
		for _, p := range []uint16{port - 1, port, port + 1} {
			got, err := c.Element(t.Context(), "t", s, nft.Key{Port: p})
			if want, there := wanted[p]; there && (err != nil || got.Key != want) || !there &&
				!errors.Is(err, fs.ErrNotExist) {
				t.Errorf("port %d: %+v, %v, want %+v", p, got.Key, err, want)
			}
		}
	}
}
