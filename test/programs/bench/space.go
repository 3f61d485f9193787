// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

// A space is a network namespace that forwards what is written to it. Spaces with different rules exist side by side,
// so that changing from one to another only means writing to another descriptor:
//
//	send -> TUN pods-in -> prerouting -> routing -> forward -> postrouting -> TUN pods-out
//
// The queue of pods-out is one packet long, and not read during measurements: the kernel drops the packet in the
// device, after everything that is being measured.
type space struct {
	in, out   int // file descriptors of the devices
	namespace *netns.Namespace
	conntrack *netlink.Conn
	kernel    *kernel.Conn // nil but where netpold's table is
	port      uint16       // the last source port
}

const (
	firstPort = 1024
	// maxFlows is the most flows in a space before conntrack must forget them: few, compared with its hash buckets.
	maxFlows = 16384
)

// baseline is the ruleset that others are compared with: connections are tracked, but no rule sees forwarded packets.
const baseline = `table inet baseline { chain output { type filter hook output priority filter; ct state ` +
	`established accept; }; }`

// newSpace makes a space and moves the calling goroutine there, for good.
func newSpace() (*space, error) {
	s := &space{in: -1, out: -1}
	var err error
	if s.namespace, err = netns.New(); err != nil {
		return nil, err
	}
	if err := s.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up a space: %w", err), s.Close())
	}
	return s, nil
}

func (s *space) setUp() (err error) {
	if s.in, err = netns.OpenTUN("pods-in"); err != nil {
		return err
	}
	if s.out, err = netns.OpenTUN("pods-out"); err != nil {
		return err
	}
	err = command(`
link set dev pods-in multicast off addrgenmode none
link set dev pods-out multicast off addrgenmode none txqueuelen 1
link set dev pods-in up
link set dev pods-out up
route add 0.0.0.0/0 dev pods-out
`, "ip", "-batch", "-")
	if err != nil {
		return err
	}
	for path, value := range map[string]string{
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/pods-in/rp_filter": "0", "ipv4/conf/all/send_redirects": "0",
		"ipv4/ip_forward": "1", "netfilter/nf_conntrack_checksum": "0", // which burst leaves as it is
	} {
		if err := netns.SetSysctl(path, value); err != nil {
			return err
		}
	}
	s.conntrack, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
	return err
}

// Close removes the devices; the namespace goes with its last thread.
func (s *space) Close() error {
	var errs []error
	for _, fd := range []int{s.in, s.out} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	if s.conntrack != nil {
		errs = append(errs, s.conntrack.Close())
	}
	if s.kernel != nil {
		errs = append(errs, s.kernel.Close())
	}
	return errors.Join(append(errs, s.namespace.Close())...)
}

// loadText loads a ruleset in nft(8)'s syntax. The calling thread is in the space.
func (s *space) loadText(ruleset string) error { return command(ruleset, "nft", "-f", "-") }

// loadTable loads a table as netpold does.
func (s *space) loadTable(ctx context.Context, t *nft.Table) (err error) {
	if s.kernel, err = kernel.Open(kernel.Config{Own: true}); err != nil {
		return err
	}
	_, err = s.kernel.Apply(ctx, t.Take())
	return err
}

// forget makes conntrack forget all flows.
func (s *space) forget() error {
	const remove = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
	_, err := s.conntrack.Execute(netlink.Message{
		Header: netlink.Header{Type: remove, Flags: netlink.Request | netlink.Acknowledge},
		Data:   make([]byte, 4), // struct nfgenmsg: of any family
	})
	if err != nil {
		return fmt.Errorf("flush conntrack: %w", err)
	}
	s.port = firstPort
	return nil
}

// A load is the packets that a measurement sends repeatedly.
type load struct {
	packets [][]byte
	fresh   bool     // each packet gets a source port of its own, so that it is the first of a new flow
	opening [][]byte // what is sent first, and not measured
}

// begin makes conntrack forget all flows, and opens those of the load.
func (s *space) begin(l load) error {
	if err := s.forget(); err != nil {
		return err
	}
	for _, b := range l.opening {
		if _, err := s.burst(load{packets: [][]byte{b}}, 1); err != nil {
			return err
		}
	}
	return nil
}

// datagrams is a load of one datagram from each of the sources. They have no checksum, so that the port can change.
func datagrams(sources []netip.Addr, to netip.AddrPort) load {
	l := load{fresh: true}
	for _, src := range sources {
		b := prober.UDP(netip.AddrPortFrom(src, 0), to, nil)
		binary.BigEndian.PutUint16(b[26:], 0)
		l.packets = append(l.packets, b)
	}
	return l
}

// syns is a load of one SYN from each of the sources.
func syns(sources []netip.Addr, to netip.AddrPort) load {
	l := load{fresh: true}
	for _, src := range sources {
		l.packets = append(l.packets, prober.TCP(netip.AddrPortFrom(src, 0), to, prober.Segment{Flags: prober.SYN}))
	}
	return l
}

// burst sends n packets and returns this thread's CPU time for it: a packet is forwarded within the write.
func (s *space) burst(l load, n int) (time.Duration, error) {
	if l.fresh && int(s.port)+n > firstPort+maxFlows {
		if err := s.forget(); err != nil {
			return 0, err
		}
	}
	begin := cpu.Thread()
	for i := range n {
		b := l.packets[i%len(l.packets)]
		if l.fresh {
			s.port++
			binary.BigEndian.PutUint16(b[20:], s.port)
		}
		// Not through Go's scheduler, which would cost as much as the packet.
		if _, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(s.in), uintptr(unsafe.Pointer(&b[0])),
			uintptr(len(b))); errno != 0 {
			return 0, fmt.Errorf("send: %w", errno)
		}
	}
	return cpu.Thread() - begin, nil
}

// forwards reports whether each packet of the load comes out.
func (s *space) forwards(l load) (bool, error) {
	b := make([]byte, 2048)
	drain := func() (n int) {
		for {
			if _, err := unix.Read(s.out, b); err != nil {
				return n
			}
			n++
		}
	}
	drain()
	for i := range l.packets {
		one := load{packets: l.packets[i : i+1], fresh: l.fresh}
		if _, err := s.burst(one, 1); err != nil {
			return false, err
		}
		if drain() == 0 {
			return false, nil
		}
	}
	return true, nil
}

// command runs a program on an input.
func command(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.300s", name, err, out)
	}
	return nil
}
