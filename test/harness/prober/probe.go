// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A Probe is the first packet of a connection: a SYN, a UDP datagram, an INIT chunk or an echo request.
type Probe struct {
	Src, Dst netip.Addr
	Proto    uint8  // unix.IPPROTO_TCP, UDP, SCTP, or that of ICMP in the family of the addresses
	DstPort  uint16 // meaningless for ICMP
	SrcPort  uint16 // 0 means a fresh one, from 32768 on; for ICMP, the id
}

// String writes the probe as "10.0.0.1:0 -> 10.0.0.2:80/6".
func (q Probe) String() string {
	src, dst := netip.AddrPortFrom(q.Src, q.SrcPort), netip.AddrPortFrom(q.Dst, q.DstPort)
	return fmt.Sprintf("%s -> %s/%d", src, dst, q.Proto)
}

// Run probes the connections, in order, and reports for each whether the kernel forwarded it. Every probe is new to
// conntrack: Run makes it forget all connections when there are too many, including those of Send and Forwarded.
func (p *Prober) Run(probes []Probe) ([]bool, error) {
	out := make([]bool, len(probes))
	packets := make([][]byte, 0, batch)
	for done := 0; done < len(probes); done += len(packets) {
		var err error
		some := probes[done:min(done+batch, len(probes))]
		if packets, err = p.packets(packets[:0], some); err != nil {
			return nil, fmt.Errorf("run: %w", err)
		}
		if len(packets) == 0 {
			if err := p.Forget(); err != nil {
				return nil, fmt.Errorf("run: %w", err)
			}
			continue
		}
		m := match{sent: packets, out: out[done : done+len(packets)]}
		if err := p.exchange(packets, m.add); err != nil {
			return nil, fmt.Errorf("run: %w", err)
		}
	}
	return out, nil
}

// Forget makes conntrack forget all connections.
func (p *Prober) Forget() error { return p.conntrack.forget() }

// packets appends the packets of as many probes as conntrack has room for before it must forget.
func (p *Prober) packets(packets [][]byte, probes []Probe) ([][]byte, error) {
	for _, q := range probes {
		if err := q.check(); err != nil {
			return nil, fmt.Errorf("probe %s: %w", q, err)
		}
		port, ok := p.conntrack.claim(q)
		if !ok {
			break
		}
		packets = append(packets, q.packet(port))
	}
	return packets, nil
}

// check refuses probes that the kernel would drop with any ruleset.
func (q Probe) check() error {
	for _, a := range []netip.Addr{q.Src, q.Dst} {
		if err := checkAddr(a); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	if q.Src.Is4() != q.Dst.Is4() {
		return errors.New("addresses of two families")
	}
	switch q.Proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, icmp(q.Src):
		return nil
	default:
		return fmt.Errorf("protocol %d: %w", q.Proto, errors.ErrUnsupported)
	}
}

// checkAddr refuses addresses that are never forwarded.
func checkAddr(a netip.Addr) error {
	v4, v6 := NodeAddr()
	switch {
	case !a.IsValid(), a.Zone() != "":
		return errors.New("not an IPv4 or IPv6 address")
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.Is6() && a.IsLinkLocalUnicast():
		return errors.New("not forwarded, whatever the ruleset")
	case a.Is4() && a.As4()[0] == 0, a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("not forwarded, whatever the ruleset")
	case a == v4, a == v6:
		return errors.New("an address of the node")
	default:
		return nil
	}
}

// packet builds the probe's packet.
func (q Probe) packet(srcPort uint16) []byte {
	src, dst := netip.AddrPortFrom(q.Src, srcPort), netip.AddrPortFrom(q.Dst, q.DstPort)
	switch q.Proto {
	case unix.IPPROTO_TCP:
		return TCP(src, dst, Segment{Flags: SYN})
	case unix.IPPROTO_UDP:
		return UDP(src, dst, nil)
	case unix.IPPROTO_SCTP:
		return SCTP(src, dst, 0, InitChunk(1))
	default:
		return Echo(q.Src, q.Dst, srcPort, 1)
	}
}
