// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
)

// batch is the number of packets per sentinel. Together with the kernel's answers they must fit queueLength.
const batch = 256

// A Prober sends packets through the forward hook of its network namespace. It is for one goroutine at a time.
type Prober struct {
	*netns.Namespace

	in, out   int // file descriptors of the TUN devices
	conntrack *conntrack
	serial    uint64        // of the last sentinel
	patience  time.Duration // for a sentinel, which comes at once unless something is wrong
	buffer    []byte        // for one packet
}

// New moves the test into a new network namespace with a Prober. If that is impossible the test is skipped, or fails if
// CI is set in the environment. Subtests may use the Prober without further ado, but must Join before they load a
// ruleset.
func New(t testing.TB) *Prober {
	t.Helper()
	p, err := Open()
	netns.Require(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Open moves the calling goroutine into a new network namespace, for good, and makes a Prober there.
func Open() (*Prober, error) {
	n, err := netns.New()
	if err != nil {
		return nil, fmt.Errorf("open prober: %w", err)
	}
	p := &Prober{Namespace: n, in: -1, out: -1, patience: 10 * time.Second, buffer: make([]byte, 1<<16)}
	if err := p.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("open prober: %w", err), p.Close())
	}
	return p, nil
}

// setUp sets up the namespace.
func (p *Prober) setUp() (err error) {
	if p.in, err = netns.OpenTUN(InName); err != nil {
		return err
	}
	if p.out, err = netns.OpenTUN(OutName); err != nil {
		return err
	}
	if err := configure(); err != nil {
		return err
	}
	p.conntrack, err = openConntrack()
	return err
}

// Close removes the devices. The goroutine stays in the namespace.
func (p *Prober) Close() error {
	errs := []error{p.Namespace.Close()}
	for _, fd := range []int{p.in, p.out} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	if p.conntrack != nil {
		errs = append(errs, p.conntrack.Close())
	}
	return errors.Join(errs...)
}

// Send sends the packets, in order, and returns everything that came out: forwarded packets and the kernel's own, such
// as resets.
func (p *Prober) Send(packets ...[]byte) ([][]byte, error) {
	var out [][]byte
	err := p.exchange(packets, func(b []byte) { out = append(out, slices.Clone(b)) })
	return out, err
}

// Forwarded sends the packets, in order, and reports for each whether it came out, unchanged except for its hop limit.
// If fewer of equal packets come out than were sent, they count as the first ones.
func (p *Prober) Forwarded(packets ...[]byte) ([]bool, error) {
	m := match{sent: packets, out: make([]bool, len(packets))}
	err := p.exchange(packets, m.add)
	return m.out, err
}

// exchange sends the packets and calls out for each packet that comes out; out must not keep it.
func (p *Prober) exchange(packets [][]byte, out func([]byte)) error {
	unpin, err := pin()
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	defer unpin()
	for some := range slices.Chunk(packets, batch) {
		for _, b := range some {
			if _, err := unix.Write(p.in, b); err != nil {
				return fmt.Errorf("send packet %x: %w", b, err)
			}
		}
		p.serial++
		if _, err := unix.Write(p.in, sentinel(p.serial)); err != nil {
			return fmt.Errorf("send sentinel: %w", err)
		}
		if err := p.receive(out); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
	return nil
}

// receive calls out for each packet up to the last sentinel's reply.
func (p *Prober) receive(out func([]byte)) error {
	for {
		n, err := unix.Read(p.out, p.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := p.wait(); err != nil {
				return err
			}
		case err != nil:
			return err
		case isReply(p.buffer[:n], p.serial):
			return nil
		default:
			out(p.buffer[:n])
		}
	}
}

// wait waits until there is something to read.
func (p *Prober) wait() error {
	deadline := time.Now().Add(p.patience)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("the sentinel is lost: does the ruleset touch traffic of the node itself?")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.out), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR): // the runtime's own signals
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n > 0:
			return nil
		}
	}
}

// NodeAddr is the node's own address in each family, and sentinelAddr the source of the sentinels. Nobody else uses
// them: RFC 7600 and RFC 6666.
func NodeAddr() (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{192, 0, 0, 8}), netip.AddrFrom16([16]byte{0: 1, 15: 8})
}

func sentinelAddr() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 0, 11}) }

// sentinel builds the packet that ends a batch.
func sentinel(serial uint64) []byte {
	node, _ := NodeAddr()
	return ICMP(sentinelAddr(), node, Message{Type: 8, Payload: binary.BigEndian.AppendUint64(nil, serial)})
}

// isReply reports whether the packet is the answer to the sentinel.
func isReply(b []byte, serial uint64) bool {
	const header = 20 + 8
	return len(b) == header+8 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_ICMP && b[20] == 0 &&
		bytes.Equal(b[16:20], sentinelAddr().AsSlice()) && binary.BigEndian.Uint64(b[header:]) == serial
}
