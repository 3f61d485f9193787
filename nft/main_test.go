// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"flag"
	"net/netip"
	"os"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/netns"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func key(s string) nft.Key { return nft.AddrKey(addr(s)) }

// span returns the key of the interval that a prefix is.
func span(prefix string) nft.Key {
	p := netip.MustParsePrefix(prefix)
	return nft.PairKey(p.Addr(), nft.LastAddr(p))
}

func accept() nft.Verdict { return nft.Verdict{Kind: nft.Accept} }

func drop() nft.Verdict { return nft.Verdict{Kind: nft.Drop} }

// ports returns the match of some ports of one protocol.
func ports(proto uint8, numbers ...uint16) nft.Ports {
	var p nft.Ports
	for _, n := range numbers {
		p = append(p, nft.PortRange{Proto: proto, First: n, Last: n})
	}
	return p
}
