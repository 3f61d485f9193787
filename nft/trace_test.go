// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"net/netip"
	"testing"

	"github.com/netpold/netpold/nft"
)

// TestTraceNeighbourDiscovery holds that `icmpv6 type` matches in IPv6 packets only: nft(8) implies `meta nfproto ipv6`.
func TestTraceNeighbourDiscovery(t *testing.T) {
	table := nft.NewTable("t", "")
	table.SetChain(&nft.Chain{Name: "c", Base: &nft.Base{}, Rules: []nft.Rule{
		nft.R(nft.NeighbourDiscovery{}, nft.Verdict{Kind: nft.Accept}),
		nft.R(nft.Verdict{Kind: nft.Drop}),
	}})
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
		a := netip.MustParseAddr(row.addr)
		_, got, err := table.Trace(nft.Flow{Src: a, Dst: a, Proto: row.proto, ICMPType: row.typ})
		if err != nil || got.Kind != row.want {
			t.Errorf("%s, protocol %d, type %d: %s, %v", row.addr, row.proto, row.typ, got, err)
		}
	}
}
