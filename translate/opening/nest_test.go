// SPDX-License-Identifier: Apache-2.0

package opening

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// TestNest compares the two forms of random blocks with the blocks themselves, on both sides of every edge.
func TestNest(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		kind := frame.Kind{Direction: policy.Ingress, Audit: seed%2 == 1}
		blocks := randomBlocks(r)
		spans, sets := spansOf(blocks)
		n := nesting{kind: kind, family: nft.IPv4, sets: sets,
			unions: make(map[string]spec.Ports), most: math.MaxInt}
		nested, ok := n.nest(spans)
		flat, _ := Cut(kind, nft.IPv4, blocks, math.MaxInt)
		if !ok {
			t.Fatal("no limit is too little")
		}
		forms := map[string][]Range{"cut": flat, "nest": nested}
		for _, e := range edgesOf(spans) {
			for _, a := range []netip.Addr{e.at, e.at.Prev()} {
				for port := range uint16(10) {
					want := slices.ContainsFunc(blocks, func(b Block) bool { return b.opens(a, port) })
					for form, ranges := range forms {
						if got := isOpen(ranges, a, port); got != want {
							t.Fatalf("seed %d: %s: %s port %d: %t, want %t", seed, form, a, port, got, want)
						}
					}
				}
			}
		}
	}
}

// randomBlocks returns blocks of which many are in others, some with every port.
func randomBlocks(r *rand.Rand) []Block {
	var blocks []Block
	for range 1 + r.IntN(60) {
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(2) * 255), 0, byte(r.IntN(2) * 255),
			byte(r.IntN(256))}), 8*r.IntN(3)+r.IntN(17)).Masked()
		b := Block{Block: spec.Block{CIDR: cidr}, Ports: spec.EveryPort()}
		for range r.IntN(3) * (33 - cidr.Bits()) / 33 {
			if e := netip.PrefixFrom(cidr.Addr(), cidr.Bits()+1+r.IntN(max(1, 32-cidr.Bits()))); e.IsValid() {
				b.Except = append(b.Except, e)
			}
		}
		if r.IntN(20) > 0 {
			first := uint16(r.IntN(10))
			b.Ports = spec.Ports{Ranges: nft.Ports{{Proto: nft.TCP, First: first, Last: first + uint16(r.IntN(3))}}}
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// opens says whether the block opens a port to an address.
func (b Block) opens(a netip.Addr, port uint16) bool {
	has := func(p netip.Prefix) bool { return p.Contains(a) }
	return has(b.CIDR) && !slices.ContainsFunc(b.Except, has) &&
		(b.Ports.Every || b.Ports.Ranges.Contains(nft.TCP, port))
}

// isOpen says whether ranges, which must be disjoint and ascending, open a port to an address.
func isOpen(ranges []Range, a netip.Addr, port uint16) bool {
	found := false
	for i, r := range ranges {
		if i > 0 && r.First.Compare(ranges[i-1].Last) <= 0 || r.Last.Compare(r.First) < 0 {
			panic("not disjoint")
		}
		if r.First.Compare(a) > 0 || a.Compare(r.Last) > 0 {
			continue
		}
		for o := &r.Opening; o != nil; o = o.outer {
			found = found || o.Ports.Every || o.Ports.Ranges.Contains(nft.TCP, port)
		}
	}
	return found
}

// nested returns n blocks, each inside the one before and with a port of its own: 10.0.0.0/8 without the first 0, 1, 2
// ... addresses.
func nested(n int) []Block {
	var blocks []Block
	for i := range n {
		b := spec.Block{CIDR: netip.MustParsePrefix("10.0.0.0/8")}
		for bit, at := 31, 0; bit >= 0; bit-- {
			if i&(1<<bit) != 0 {
				b.Except = append(b.Except,
					netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(at >> 16), byte(at >> 8), byte(at)}), 32-bit))
				at += 1 << bit
			}
		}
		port := uint16(1 + 2*i)
		blocks = append(blocks, Block{b, spec.Ports{Ranges: nft.Ports{{Proto: nft.TCP, First: port, Last: port}}}})
	}
	return blocks
}

// TestNestedSize: the size of an isolation's blocks is proportional to their number, even if each is inside others and
// has its own port; and no packet meets more than a few chains, one less if only audited.
func TestNestedSize(t *testing.T) {
	for _, n := range []int{200, 1000, 10_000} {
		for audit, most := range map[bool]int{false: 6, true: 5} {
			ranges, _ := Cut(frame.Kind{Direction: policy.Ingress, Audit: audit}, nft.IPv4, nested(n), math.MaxInt)
			ports, deepest := make(map[string]int), 0
			for i := range ranges {
				depth := 0
				for o := &ranges[i].Opening; o != nil; o = o.outer {
					ports[o.Chain] = len(o.Ports.Ranges)
					depth++
				}
				deepest = max(deepest, depth)
			}
			sum := 0
			for _, p := range ports {
				sum += p
			}
			t.Logf("%d blocks, audited %t: %d ranges, %d chains, %d ports, a packet meets at most %d chains", n, audit,
				len(ranges), len(ports), sum, deepest)
			if sum > 50*n || deepest > most {
				t.Errorf("%d blocks, audited %t: %d ports, a packet meets up to %d chains", n, audit, sum, deepest)
			}
		}
	}
}
