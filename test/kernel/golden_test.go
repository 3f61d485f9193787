// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// golden loads the golden cases.
func golden(t *testing.T) []*cases.Case {
	t.Helper()
	all, err := cases.Load("../../translate/testdata")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestGolden compares the kernel's verdicts with the flows of the golden cases. This machine is each node of a case in
// turn, and a flow is allowed if all of them forward it.
func TestGolden(t *testing.T) {
	p := prober.New(t)
	conn := open(t)
	g := goldens{p, conn}
	flows := 0
	for _, c := range golden(t) {
		flows += len(c.Flows)
		t.Run(c.Name, func(t *testing.T) {
			p.Join(t)
			allowed, audited := make([]bool, len(c.Flows)), make([]bool, len(c.Flows))
			for i := range allowed {
				allowed[i] = true
			}
			for _, node := range c.Nodes() {
				s, _ := c.State(node)
				if _, err := conn.Apply(t.Context(), s.Complete().Take()); err != nil {
					t.Fatalf("node %s: %+v", node, err)
				}
				readBack(t, conn, s.Complete())
				g.meet(t, c.Flows, allowed, audited)
			}
			for i, f := range c.Flows {
				if allowed[i] != f.Allow || (allowed[i] && audited[i]) != f.Audit {
					t.Errorf("%s: the kernel allows it: %t, and counts that audited policies would deny it: %t", f,
						allowed[i], audited[i])
				}
			}
		})
	}
	t.Logf("%d flows", flows)
}

// goldens sends flows one by one, so that each is a connection unrelated to the others.
type goldens struct {
	*prober.Prober
	conn *kernel.Conn
}

// meet sends the flows through the current ruleset and records which it denies, and which audited policies would deny.
func (g goldens) meet(t *testing.T, flows []cases.Flow, allowed, audited []bool) {
	t.Helper()
	p := g.Prober
	before := wouldDeny(t, g.conn)
	for i, f := range flows {
		var passes []bool
		var err error
		switch {
		case f.FromNode():
			passes, err = fromNode(p, f.Flow)
		case f.ToNode:
			passes, err = toNode(p, f.Flow)
		default:
			passes, err = send(p, []policy.Flow{f.Flow})
		}
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		allowed[i] = allowed[i] && passes[0]
		after := wouldDeny(t, g.conn)
		audited[i], before = audited[i] || after > before, after
	}
}

// wouldDeny returns the table's count of packets that audited policies would deny.
func wouldDeny(t testing.TB, conn *kernel.Conn) uint64 {
	t.Helper()
	sum := uint64(0)
	for _, set := range frame.CountingSets() {
		if !set.Audit {
			continue
		}
		counts, err := conn.Elements(t.Context(), frame.TableName, set.Name, set.Type)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, c := range counts {
			sum += c.Packets
		}
	}
	return sum
}

// nodeAddr returns the address of the prober's node in the family of another.
func nodeAddr(a netip.Addr) netip.Addr {
	v4, v6 := prober.NodeAddr()
	if a.Is4() {
		return v4
	}
	return v6
}

// toNode says whether the node answers a pod.
func toNode(p *prober.Prober, f policy.Flow) ([]bool, error) {
	request := prober.TCP(netip.AddrPortFrom(f.Src, 40000), netip.AddrPortFrom(f.Dst, f.DstPort),
		prober.Segment{Flags: prober.SYN})
	switch f.Proto {
	case nft.TCP:
	case nft.ICMP, nft.ICMPv6:
		request = prober.Echo(f.Src, f.Dst, 1, 1)
	default:
		return nil, errors.New("a node only answers TCP and pings")
	}
	return comesOut(p, f.Dst, f.Src, request)
}

// fromNode says whether a packet from the node reaches a pod.
func fromNode(p *prober.Prober, f policy.Flow) ([]bool, error) {
	kinds := map[uint8]int{nft.TCP: unix.SOCK_STREAM, nft.UDP: unix.SOCK_DGRAM}
	kind, known := kinds[f.Proto]
	if !known {
		return nil, errors.New("a node only speaks TCP and UDP")
	}
	family := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(f.DstPort), Addr: [4]byte(f.Dst.AsSlice())}
	if f.Dst.Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(f.DstPort), Addr: f.Dst.As16()}
	}
	s, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	if err := unix.Connect(s, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if f.Proto == nft.UDP {
		if _, err := unix.Write(s, []byte("probe")); err != nil {
			return nil, fmt.Errorf("write: %w", err)
		}
	}
	return comesOut(p, netip.Addr{}, f.Dst)
}

// comesOut sends packets, or none, and says whether one to dst comes out, from src or, if that is not valid, from
// anywhere.
func comesOut(p *prober.Prober, src, dst netip.Addr, packets ...[]byte) ([]bool, error) {
	if len(packets) == 0 { // packets sent in another way are read with the answer to this one
		stranger := netip.AddrFrom4([4]byte{198, 51, 100, 254})
		packets = append(packets, prober.Echo(stranger, nodeAddr(stranger), 2, 1))
	}
	out, err := p.Send(packets...)
	if err != nil {
		return nil, err
	}
	for _, b := range out {
		from, to := addresses(b)
		if to == dst && (from == src || !src.IsValid()) {
			return []bool{true}, nil
		}
	}
	return []bool{false}, nil
}

// addresses returns source and destination of an IP packet.
func addresses(b []byte) (src, dst netip.Addr) {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	}
	return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
}

// TestText compares what netpold writes to the kernel with what nft(8) loads from the output of `netpold render`.
func TestText(t *testing.T) {
	_, err := exec.LookPath("nft")
	netns.Require(t, err)
	for _, c := range golden(t) {
		t.Run(c.Name, func(t *testing.T) {
			for _, node := range c.Nodes() {
				s, _ := c.State(node)
				netns.Enter(t)
				if _, err := open(t).Apply(t.Context(), s.Complete().Take()); err != nil {
					t.Fatalf("node %s: %+v", node, err)
				}
				written := listing(t)
				netns.Enter(t)
				loadText(t, s.Complete())
				if loaded := listing(t); loaded != written {
					t.Errorf("node %s: nft(8) loads what netpold does not write:\n%s\nand lacks:\n%s", node,
						without(loaded, written), without(written, loaded))
				}
			}
		})
	}
}

// loadText loads the text of a table with nft(8).
func loadText(t *testing.T, table *nft.Table) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(table.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft -f: %v: %s", err, out)
	}
}
