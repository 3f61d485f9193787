// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/train"
)

// talk is an established TCP connection and UDP exchange from the client to web.
type talk struct {
	t           *testing.T
	prober      *prober.Prober
	client, web netip.Addr
}

// tcp is a segment of the connection, from the client or back.
func (k talk) tcp(back bool, s prober.Segment) []byte {
	client, web := netip.AddrPortFrom(k.client, 20000), netip.AddrPortFrom(k.web, 80)
	if back {
		return prober.TCP(web, client, s)
	}
	return prober.TCP(client, web, s)
}

// udp is a datagram of the exchange, from the client or back.
func (k talk) udp(back bool) []byte {
	client, web := netip.AddrPortFrom(k.client, 20000), netip.AddrPortFrom(k.web, 53)
	if back {
		return prober.UDP(web, client, []byte("answer"))
	}
	return prober.UDP(client, web, []byte("question"))
}

// data is the n-th segment with data.
func (k talk) data(back bool, n uint32) []byte {
	s := prober.Segment{Flags: prober.ACK | prober.PSH, Seq: 101 + 4*n, Ack: 501, Payload: []byte("data")}
	if back {
		s.Seq, s.Ack = 501, 101
	}
	return k.tcp(back, s)
}

// unreachable is the ICMP error from web's host about the client's datagram.
func (k talk) unreachable() []byte {
	m := prober.Message{Type: 3, Code: 3, Payload: k.udp(false)}
	if k.web.Is6() {
		m.Type, m.Code = 1, 4
	}
	return prober.ICMP(k.web, k.client, m)
}

// open opens both, and tests every direction.
func (k talk) open() {
	k.t.Helper()
	k.want("opening", true,
		k.tcp(false, prober.Segment{Flags: prober.SYN, Seq: 100}),
		k.tcp(true, prober.Segment{Flags: prober.SYN | prober.ACK, Seq: 500, Ack: 101}),
		k.tcp(false, prober.Segment{Flags: prober.ACK, Seq: 101, Ack: 501}),
		k.data(false, 0), k.data(true, 0), k.udp(false), k.udp(true), k.unreachable())
}

// want fails the test unless all packets pass, or none does.
func (k talk) want(what string, pass bool, packets ...[]byte) {
	k.t.Helper()
	passed, err := k.prober.Forwarded(packets...)
	if err != nil {
		k.t.Fatal(err)
	}
	for i, ok := range passed {
		if ok != pass {
			k.t.Errorf("%s: packet %d of %s to %s: passed is %v, want %v", what, i, k.client, k.web, ok, pass)
		}
	}
}

// testKeep takes a permission away under live connections, which stay.
func testKeep(t *testing.T, program string) { established(t, program, "keep", true) }

// testRecheck takes a permission away under live connections, whose next packets are dropped.
func testRecheck(t *testing.T, program string) { established(t, program, "recheck", false) }

// established opens connections, forbids them, and checks which packets the mode still lets pass.
func established(t *testing.T, program, mode string, stays bool) {
	p := prober.New(t)
	d := newDaemon(t, program, pause, "--established="+mode)
	d.write("world.yaml", train.World)
	d.write("permission.yaml", train.Permission)
	d.start()
	talks := []talk{
		{t, p, netip.MustParseAddr("10.0.2.1"), netip.MustParseAddr("10.0.1.1")},
		{t, p, netip.MustParseAddr("fd00:2::1"), netip.MustParseAddr("fd00:1::1")},
	}
	for _, k := range talks {
		k.open()
	}
	d.write("permission.yaml", strings.ReplaceAll(train.Permission, "app: client", "app: nobody"))
	d.await(transaction)
	for _, k := range talks {
		k.want("original direction after the change, "+mode, stays, k.data(false, 1), k.udp(false))
	}
	d.write("permission.yaml", train.Permission)
	d.await(transaction)
	for _, k := range talks {
		k.want("all after the permission is back, "+mode, true, k.data(false, 1), k.data(true, 0), k.udp(false),
			k.udp(true), k.unreachable())
	}
}
