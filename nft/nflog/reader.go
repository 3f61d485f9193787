// SPDX-License-Identifier: Apache-2.0

package nflog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrBusy is wrapped in the error of Open if another process reads the group. The group is free once that process ends
// or closes its reader, so during a rolling update retrying helps.
var ErrBusy = errors.New("another process reads the group")

// buffer is the size in bytes of the kernel's queue: some 50,000 packets. More than net.core.rmem_max takes
// CAP_NET_ADMIN in the initial user namespace; without it, rmem_max is used.
const buffer = 8 << 20

// Stats are counts since Open.
type Stats struct {
	Packets uint64 // returned by Read

	// Lost is the number of packets that the kernel logged and could not deliver, up to the last packet read: later
	// losses show with the next one.
	Lost uint64
}

// Reader reads the packets of a group. It is for one goroutine; Stats and Close may be called from others.
type Reader struct {
	group uint16
	conn  *netlink.Conn

	rest     []netlink.Message // received, not decoded yet
	next     uint32            // number of the next packet if none is lost
	prefixes map[string]string // seen before

	closed        atomic.Bool
	packets, lost atomic.Uint64
}

// Open makes the calling process the reader of a group, in the network namespace of the calling thread. If there is one
// already, the error wraps [ErrBusy]. Packets logged before are not delivered.
func Open(group uint16) (*Reader, error) {
	r, err := open(group)
	if err != nil {
		return nil, fmt.Errorf("open log group %d: %w", group, err)
	}
	return r, nil
}

func open(group uint16) (*Reader, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	r := &Reader{group: group, conn: conn, prefixes: make(map[string]string)}
	if err = conn.SetReadBuffer(buffer); err == nil {
		err = r.bind()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return r, nil
}

// Close releases the group. A waiting Read returns net.ErrClosed; the group is free when it has.
func (r *Reader) Close() error {
	r.closed.Store(true)
	return r.conn.Close()
}

// Stats returns the numbers so far.
func (r *Reader) Stats() Stats {
	return Stats{Packets: r.packets.Load(), Lost: r.lost.Load()}
}

// Read waits for packets, and returns how many it put at the start of batch: at most one datagram's, which is 100. Lost
// packets are not an error, see [Stats]. When ctx is done it returns ctx's error, and can be called again. Any other
// error is permanent.
func (r *Reader) Read(ctx context.Context, batch []Packet) (int, error) {
	for len(batch) > 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if n := r.decode(batch); n > 0 {
			return n, nil
		}
		if err := r.fill(ctx); err != nil {
			return 0, fmt.Errorf("read log group %d: %w", r.group, err)
		}
	}
	return 0, nil
}

// fill reads the next datagram, or returns when ctx is done.
func (r *Reader) fill(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.conn.SetReadDeadline(time.Unix(1, 0)) })
	messages, err := r.conn.Receive()
	stop()
	switch {
	case errors.Is(err, unix.ENOBUFS): // the sequence numbers tell how many are lost
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded): // ctx's, or set late for the previous call
		return r.conn.SetReadDeadline(time.Time{})
	case err != nil && r.closed.Load():
		return net.ErrClosed
	case err != nil:
		return err
	}
	r.rest = messages
	return nil
}
