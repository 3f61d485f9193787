// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// The elements of a set of any type are read back.
func TestElements(t *testing.T) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), sets()
	apply(t, c, table)
	for _, s := range table.Sets() {
		want := make(map[nft.Key]nft.Value)
		for _, e := range s.Elements() {
			want[e.Key] = e.Value
		}
		if got := held(t, c, s); !maps.Equal(got, want) {
			t.Errorf("%s: got %v\nwant %v", s.Name, got, want)
		}
	}
	if _, err := c.Elements(t.Context(), "t", "missing", nft.SetType{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Elements(t.Context(), "missing", "s", nft.SetType{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

// nth returns the n-th of many keys for a set of a type; those of intervals are adjacent, in pairs.
func nth(typ nft.SetType, n int) nft.Key {
	a := v4(n * 2)
	if typ.Family == nft.IPv6 {
		b := a.As4()
		a = netip.AddrFrom16([16]byte{0: 0xfd, 11: 1, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})
	}
	switch typ.Fields {
	case nft.PortInterval:
		return nft.IntervalKey(uint16(4*n), uint16(4*n+1))
	case nft.Port:
		return nft.Key{Port: uint16(n)}
	case nft.AddrRange:
		return nft.PairKey(a, a.Next())
	case nft.AddrAddr:
		return nft.PairKey(a, a)
	case nft.AddrProtoPort:
		return nft.PortKey(a, nft.TCP, uint16(n))
	}
	return nft.AddrKey(a)
}

// All of many elements arrive in one transaction.
func TestManyElements(t *testing.T) {
	for _, typ := range setTypes() {
		if typ.Counter { // as without
			continue
		}
		t.Run(setName(typ), func(t *testing.T) {
			netns.Enter(t)
			c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
			table.SetChain(&nft.Chain{Name: "c"})
			s := table.Set("s", typ, "")
			n := 10000
			if typ.Family == nft.IPv4 && !typ.Map && typ.Fields <= nft.AddrRange {
				n = 100000
			}
			var v nft.Value
			if typ.Map {
				v = nft.Value{Verdict: nft.GotoChain("c"), Comment: "comment"}
			}
			for i := range n {
				s.Want(nth(typ, i), v)
			}
			apply(t, c, table)
			got := held(t, c, s)
			if len(got) != n {
				t.Errorf("%d elements, want %d", len(got), n)
			}
			for i := range n {
				if got[nth(typ, i)] != v {
					t.Fatalf("element %d is %+v", i, got[nth(typ, i)])
				}
			}
		})
	}
}

// A huge set is one transaction too.
func TestHugeSet(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second and 200 MB")
	}
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	s := table.Set("s", nft.SetType{Family: nft.IPv4, Fields: nft.AddrProtoPort}, "")
	const n = 500000
	for i := range n {
		s.Want(nth(s.Type, i), nft.Value{})
	}
	apply(t, c, table)
	for i := range n { // reading them takes long, but the kernel deletes only what it has
		s.Unwant(nth(s.Type, i))
	}
	apply(t, c, table)
	if got := held(t, c, s); len(got) != 0 {
		t.Errorf("%d elements are left", len(got))
	}
}

// Counters of elements and chains count packets. The model has no chain at the output hook, so nft(8) adds one.
func TestCounters(t *testing.T) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	table.SetChain(&nft.Chain{Name: "one", Rules: []nft.Rule{nft.R(nft.Counter{}), nft.R(nft.Counter{})}})
	table.SetChain(&nft.Chain{Name: "none"})
	script := "add chain inet t out { type filter hook output priority 0; }\nadd rule inet t out jump one\n"
	for _, typ := range setTypes() {
		if typ.Family != nft.IPv4 || !typ.Counter {
			continue
		}
		s := table.Set(setName(typ), typ, "")
		v := nft.Value{}
		if typ.Map {
			v = verdict(nft.JumpTo("none"))
		}
		for i := range 3 {
			a := netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + i)})
			k := nft.Key{Addr: a.As16()}
			switch typ.Fields {
			case nft.AddrRange:
				k.To = k.Addr
			case nft.AddrAddr:
				k.To = addr("127.0.0.1").As16()
			case nft.AddrProtoPort:
				k.Proto, k.Port = nft.UDP, 9
			}
			s.Want(k, v)
		}
		script += fmt.Sprintf("add rule inet t out %s\n", nft.R(nft.LookupIn(nft.Destination, s)))
	}
	apply(t, c, table)
	netns.NFT(t, script, "-f", "-")
	for i, packets := range []int{0, 1, 5} {
		send(t, fmt.Sprintf("127.0.0.%d:9", 10+i), packets)
	}

	want := map[byte]uint64{10: 0, 11: 1, 12: 5}
	byAddress := func(elements []nft.Counted) map[byte]uint64 {
		got := make(map[byte]uint64)
		for _, e := range elements {
			got[e.Addr[15]] = e.Packets
		}
		return got
	}
	for _, s := range table.Sets() {
		elements, err := c.Elements(t.Context(), "t", s.Name, s.Type)
		if err != nil {
			t.Fatal(err)
		}
		if got := byAddress(elements); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", s.Name, got, want)
		}
		for _, e := range elements {
			s.Unwant(e.Key)
		}
	}
	result, err := c.Apply(t.Context(), table.Take())
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Deleted) != len(table.Sets()) {
		t.Errorf("deletions of %d sets were told of, want %d", len(result.Deleted), len(table.Sets()))
	}
	for set, elements := range result.Deleted {
		if got := byAddress(elements); !maps.Equal(got, want) {
			t.Errorf("deleted from %s: got %v, want %v", set, got, want)
		}
	}
}

// send sends packets of 4 bytes of payload over UDP.
func send(t *testing.T, to string, packets int) {
	t.Helper()
	server, err := net.ListenPacket("udp", to) // in this namespace: the goroutine has the thread to itself
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range packets {
		if _, err := client.Write([]byte("test")); err != nil {
			t.Error(err)
		}
	}
}

// While transactions go on, a read returns the set of one moment, without duplicates or gaps, or says that it could
// not. No transaction waits for it.
func TestElementsUnderChange(t *testing.T) {
	for _, n := range []int{100, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) { elementsUnderChange(t, n) })
	}
}

func elementsUnderChange(t *testing.T, n int) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	s := table.Set("s", nft.SetType{Family: nft.IPv4}, "")
	for i := range n {
		s.Want(nft.AddrKey(v4(i)), nft.Value{})
	}
	apply(t, c, table)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := n; ctx.Err() == nil; i++ {
			s.Want(nft.AddrKey(v4(i)), nft.Value{})
			s.Unwant(nft.AddrKey(v4(i - 1)))
			if _, err := c.Apply(t.Context(), table.Take()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	exact := 0
	for range 8 {
		elements, err := c.Elements(ctx, "t", "s", nft.SetType{Family: nft.IPv4})
		if errors.Is(err, kernel.ErrTorn) {
			continue
		}
		exact++
		last, stable := nft.AddrKey(v4(n-1)), make(map[nft.Key]struct{})
		for _, e := range elements {
			if bytes.Compare(e.Addr[:], last.Addr[:]) < 0 {
				stable[e.Key] = struct{}{}
			}
		}
		if err != nil || len(stable) != n-1 || len(elements) != n {
			t.Errorf("%d elements, %d stable ones, want %d: %v", len(elements), len(stable), n-1, err)
		}
	}
	cancel()
	<-stopped
	t.Logf("%d of 8 reads were of one moment", exact)
	if elements, err := c.Elements(t.Context(), "t", "s", s.Type); err != nil || len(elements) != n {
		t.Errorf("when nothing changes any more: %d elements, %v", len(elements), err)
	}
}

// TestInForce: a table is in force while it has a base chain, whatever its name.
func TestInForce(t *testing.T) {
	netns.Enter(t)
	reader, err := kernel.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, step := range []struct {
		nft  string
		want bool
	}{
		{"add table inet other; add chain inet other c { type filter hook forward priority filter; }", false},
		{"add table inet t", false},
		{"add chain inet t c", false},
		{"add chain inet t of-another-version { type filter hook input priority filter; }", true},
		{"delete chain inet t of-another-version", false},
	} {
		netns.NFT(t, step.nft, "-f", "-")
		if got, err := reader.InForce(t.Context(), "t"); err != nil || got != step.want {
			t.Errorf("after %s: in force: %t, %v; want %t", step.nft, got, err, step.want)
		}
	}
}
