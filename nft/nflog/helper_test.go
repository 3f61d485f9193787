// SPDX-License-Identifier: Apache-2.0

package nflog_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// ends are the two ends of a connection in each family.
var ends = []struct {
	name     string
	src, dst netip.AddrPort
}{
	{"IPv4", netip.MustParseAddrPort("10.1.0.1:40000"), netip.MustParseAddrPort("10.2.0.2:8080")},
	{"IPv6", netip.MustParseAddrPort("[fd00:1::1]:40000"), netip.MustParseAddrPort("[fd00:2::2]:8080")},
}

// etherType is what the kernel calls the packet.
func etherType(packet []byte) uint16 {
	if len(packet) > 0 && packet[0]>>4 == 6 {
		return unix.ETH_P_IPV6
	}
	return unix.ETH_P_IP
}

// extended inserts extension headers after the header of an IPv6 packet; next is the number of the first one.
func extended(packet []byte, next uint8, headers ...[]byte) []byte {
	b := append([]byte(nil), packet[:40]...)
	b[6] = next
	for _, h := range headers {
		b = append(b, h...)
	}
	b = append(b, packet[40:]...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// options is a header of hop-by-hop or destination options, n bytes of padding.
func options(next uint8, n int) []byte {
	b := make([]byte, n)
	b[0], b[1] = next, uint8(n/8-1)
	for at := 2; at < n; { // options of padding are at most 7 bytes: the kernel suspects more
		pad := min(n-at, 7)
		if pad == 1 {
			at++ // Pad1
			continue
		}
		b[at], b[at+1] = 1, uint8(pad-2) // PadN
		at += pad
	}
	return b
}

// routing is a routing header that has already been processed.
func routing(next uint8) []byte { return []byte{next, 0, 2, 0, 0, 0, 0, 0} }

// authentication is an AH with the shortest check value.
func authentication(next uint8) []byte { return append([]byte{next, 4}, make([]byte, 22)...) }

// fragmentHeader is that of a fragment at an offset, a multiple of 8.
func fragmentHeader(next uint8, offset uint16, more bool) []byte {
	b := []byte{next, 0, byte(offset >> 8), byte(offset), 0, 0, 0, 1}
	if more {
		b[3] |= 1
	}
	return b
}

// withOptions adds n bytes of no-op options to an IPv4 packet.
func withOptions(packet []byte, n int) []byte {
	b := append([]byte(nil), packet[:20]...)
	for range n {
		b = append(b, 1)
	}
	b = append(b, packet[20:]...)
	b[0] += uint8(n / 4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	sum := uint32(0)
	for at := 0; at < 20+n; at += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[at:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	return b
}

// load loads a ruleset with a chain at the forward hook that has the rules.
func load(t testing.TB, rules ...string) {
	t.Helper()
	netns.NFT(t, "flush ruleset\ntable inet t { chain forward { type filter hook forward priority filter\n"+
		strings.Join(rules, "\n")+"\n}\n}\n", "-f", "-")
}

// open reads the group 86 of the calling thread's namespace.
func open(t testing.TB) *nflog.Reader {
	t.Helper()
	r, err := nflog.Open(86)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// send sends packets from pod to pod, and fails if one arrives.
func send(t testing.TB, p *prober.Prober, packets ...[]byte) {
	t.Helper()
	out, err := p.Send(packets...)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 0 {
		t.Fatalf("%d of %d packets were forwarded: %x", len(out), len(packets), out)
	}
}
