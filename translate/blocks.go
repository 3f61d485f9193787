// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
)

// block is a compiled ipBlock: a CIDR and the parts of it that are left out.
type block struct {
	family nft.Family // of the cidr as it was parsed; no address in it says so, one of IPv6 may look like IPv4
	cidr   netip.Prefix
	except []netip.Prefix
}

// openBlock is a block and the ports that its rule opens.
type openBlock struct {
	block
	ports portSet
}

// openRange is an interval of addresses, both ends inclusive, and the ports that are open to it.
type openRange struct {
	family      nft.Family
	first, last netip.Addr
	ports       portSet
}

// edge is an address at which ports begin to be open, or from which on they are not.
type edge struct {
	at    netip.Addr
	ports string // the key of the port set
	opens int    // +1 opens, -1 closes
}

// cut turns overlapping blocks of one family into disjoint ranges in ascending order, each with the union of the ports of the
// blocks that cover it. Neighbours with equal ports are one range. The kernel silently accepts and then misjudges overlapping
// intervals, so nothing else may reach an interval set.
func cut(f nft.Family, blocks []openBlock) []openRange {
	edges := edgesOf(blocks)
	sets := make(map[string]portSet)
	for _, b := range blocks {
		sets[b.ports.key()] = b.ports
	}
	depth := make(map[string]int) // how many blocks with these ports are open at this point
	var ranges []openRange
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			e := edges[i]
			if depth[e.ports] += e.opens; depth[e.ports] == 0 {
				delete(depth, e.ports)
			}
		}
		if len(depth) == 0 {
			continue
		}
		last := top(f)
		if i < len(edges) {
			last = edges[i].at.Prev()
		}
		ports := openPorts(sets, depth)
		if n := len(ranges); n > 0 && ranges[n-1].last.Next() == at && ranges[n-1].ports.key() == ports.key() {
			ranges[n-1].last = last
			continue
		}
		ranges = append(ranges, openRange{f, at, last, ports})
	}
	return ranges
}

// openPorts returns the union of the port sets that are open.
func openPorts(sets map[string]portSet, depth map[string]int) portSet {
	open := make([]portSet, 0, len(depth))
	for key := range depth {
		open = append(open, sets[key])
	}
	return union(open...)
}

// edgesOf returns where the blocks open and close, in ascending order. A block that reaches the top of the address space closes nowhere.
func edgesOf(blocks []openBlock) []edge {
	var edges []edge
	for _, b := range blocks {
		ports := b.ports.key()
		open := func(first, end netip.Addr) { // end is the first address after it
			if first == end {
				return
			}
			edges = append(edges, edge{first, ports, +1})
			if end.IsValid() {
				edges = append(edges, edge{end, ports, -1})
			}
		}
		from := b.cidr.Addr()
		for _, e := range outermost(b.except) {
			open(from, e.Addr())
			from = nft.LastAddr(e).Next()
		}
		if from.IsValid() { // else an except reaches the top
			open(from, nft.LastAddr(b.cidr).Next())
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	return edges
}

// outermost returns the prefixes that are in no other of them, in ascending order.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	outer := sorted[:0]
	for _, p := range sorted {
		if n := len(outer); n > 0 && outer[n-1].Contains(p.Addr()) {
			continue
		}
		outer = append(outer, p)
	}
	return outer
}

// top is the highest address of a family.
func top(f nft.Family) netip.Addr {
	lowest := netip.IPv4Unspecified()
	if f == nft.IPv6 {
		lowest = netip.IPv6Unspecified()
	}
	return nft.LastAddr(netip.PrefixFrom(lowest, 0))
}

// parseCIDR reads a CIDR as the API server does: leading zeros of IPv4 fields are decimal, bits behind the mask are dropped,
// and a prefix of IPv4-mapped addresses alone is the IPv4 one. One that has others too, as ::/0 or ::fffe:0:0/95, is of IPv6.
func parseCIDR(text string) (netip.Prefix, bool) {
	addr, bits, found := strings.Cut(text, "/")
	if !found {
		return netip.Prefix{}, false
	}
	decimal := strings.LastIndexByte(addr, ':') + 1 // also behind ::ffff:
	if fields := strings.Split(addr[decimal:], "."); len(fields) == 4 {
		for i, f := range fields {
			fields[i] = trimZeros(f)
		}
		addr = addr[:decimal] + strings.Join(fields, ".")
	}
	p, err := netip.ParsePrefix(addr + "/" + trimZeros(bits))
	if err != nil || p.Addr().Zone() != "" {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// trimZeros removes the leading zeros of a decimal number.
func trimZeros(number string) string {
	if trimmed := strings.TrimLeft(number, "0"); trimmed != "" || number == "" {
		return trimmed
	}
	return "0"
}
