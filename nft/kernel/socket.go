// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socket is an nfnetlink socket that sends and reads bytes, for transactions and the watcher:
// github.com/mdlayher/netlink can neither send a batch from one buffer nor read without blocking.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
	wmem int // bytes of the longest datagram it sends

	closed atomic.Bool
}

// sendSlack is the space in bytes that the kernel needs in the send buffer besides the datagram.
const sendSlack = 64

// dial opens a socket in the network namespace of the calling thread, with a buffer of that many bytes to read from.
func dial(readBuffer int) (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, fmt.Errorf("netfilter over netlink (CONFIG_NETFILTER_NETLINK): %w: %w", ErrNotSupported, err)
	}
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn}
	if err := s.setUp(readBuffer); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) setUp(readBuffer int) error {
	// Make the kernel name the attribute at fault (Linux 4.12), and not return the faulty message, which can be 64 KiB.
	for _, o := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.CapAcknowledge} {
		if err := s.conn.SetOption(o, true); err != nil {
			return err
		}
	}
	if err := s.conn.SetReadBuffer(readBuffer); err != nil {
		return err
	}
	var err error
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return err
	}
	s.wmem, err = s.conn.WriteBuffer()
	return err
}

func (s *socket) close() error {
	s.closed.Store(true)
	return s.conn.Close()
}

// outcome returns a system call's error, or why the call was not made.
func (s *socket) outcome(control, call error) error {
	if control != nil && s.closed.Load() {
		return net.ErrClosed
	}
	return cmp.Or(control, call)
}

// send sends b as one datagram. An error means that the kernel has not seen any of it.
func (s *socket) send(b []byte) error {
	if err := s.growWriteBuffer(len(b) + sendSlack); err != nil {
		return err
	}
	var err error
	control := s.raw.Control(func(fd uintptr) {
		_, err = unix.Write(int(fd), b) // to the kernel, the only peer
	})
	if err := s.outcome(control, err); err != nil {
		return fmt.Errorf("send %d bytes to nf_tables: %w", len(b), err)
	}
	return nil
}

// growWriteBuffer lets the socket send a datagram of n bytes. Beyond net.core.wmem_max that takes CAP_NET_ADMIN in the
// initial user namespace.
func (s *socket) growWriteBuffer(n int) error {
	if n <= s.wmem {
		return nil
	}
	if err := s.conn.SetWriteBuffer(n); err != nil {
		return err
	}
	var err error
	if s.wmem, err = s.conn.WriteBuffer(); err != nil {
		return err
	}
	if n > s.wmem {
		return fmt.Errorf("transaction of %d bytes, but the socket sends at most %d; raise net.core.wmem_max "+
			"or run with CAP_NET_ADMIN in the initial user namespace: %w", n, s.wmem, unix.EMSGSIZE)
	}
	return nil
}

// receive reads one datagram into b, or returns EAGAIN when there is none.
func (s *socket) receive(b []byte) (int, error) {
	var n int
	var err error
	control := s.raw.Control(func(fd uintptr) {
		n, err = unix.Read(int(fd), b) // the socket does not block
	})
	return n, s.outcome(control, err)
}

// wait is receive, but waits for a datagram until the connection's read deadline.
func (s *socket) wait(b []byte) (int, error) {
	var n int
	var err error
	control := s.raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), b)
		return !errors.Is(err, unix.EAGAIN)
	})
	return n, s.outcome(control, err)
}
