// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Event is a transaction that somebody else committed in the network namespace, to whichever table.
type Event struct {
	Generation uint32 // number of the ruleset since then
	PID        uint32 // of the process, in the initial PID namespace
	Program    string // the process's name, cut to 15 bytes by the kernel

	// Lost says that the kernel could not deliver some events, so that anybody may have changed anything. The other fields are zero.
	Lost bool
}

// Watcher tells of the transactions that others commit. It is for one goroutine; only Close may be called from another.
type Watcher struct {
	socket *socket
	own    uint32 // port of the connection whose transactions are not told of
	buf    []byte
}

// Watch returns a watcher of everybody's transactions but those of c, from this moment on: what is read from the kernel after Watch
// returns is as the events say, or newer. It is for the network namespace of Config.NetNS or of the calling thread, which is to be
// that of Open.
//
// While anybody watches, large transactions take the kernel longer: twice as long with 65,000 elements, on Linux 6.18.
func (c *Conn) Watch() (*Watcher, error) {
	s, err := dial(c.config.NetNS)
	if err != nil {
		return nil, fmt.Errorf("watch nf_tables: %w", err)
	}
	w := &Watcher{socket: s, own: c.port, buf: make([]byte, answerBytes)}
	if err := w.subscribe(); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("watch nf_tables: %w", err)
	}
	return w, nil
}

// subscribe joins the group of nf_tables' notifications, of which there is one for each object that changes, with a filter in front
// that passes the one that comes once for each transaction.
func (w *Watcher) subscribe() error {
	// The filter reads numbers in network byte order; the message's type is in the host's.
	typ := binary.NativeEndian.AppendUint16(nil, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(typ)), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 0xffffffff},
	})
	if err != nil {
		return err
	}
	if err := w.socket.conn.SetBPF(program); err != nil {
		return err
	}
	return w.socket.conn.JoinGroup(unix.NFNLGRP_NFTABLES)
}

// Close stops the watcher. A Next that waits returns an error that is net.ErrClosed.
func (w *Watcher) Close() error { return w.socket.close() }

// Next waits for the next event, until ctx is done or the watcher is closed.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	conn := w.socket.conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil {
		n, err := w.socket.wait(w.buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return Event{Lost: true}, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			// Of ctx, or set late by the one of the call before.
			if err := conn.SetReadDeadline(time.Time{}); err != nil {
				return Event{}, fmt.Errorf("watch nf_tables: %w", err)
			}
		case err != nil:
			return Event{}, fmt.Errorf("watch nf_tables: %w", err)
		default:
			if e, foreign := w.decode(w.buf[:n]); foreign {
				return e, nil
			}
		}
	}
	return Event{}, ctx.Err()
}

// decode returns the event in a datagram, and whether it is somebody else's.
func (w *Watcher) decode(b []byte) (Event, bool) {
	for h, body := range messages(b) {
		if h.PID == w.own || len(body) < headerLen-unix.NLMSG_HDRLEN {
			continue
		}
		attrs := body[headerLen-unix.NLMSG_HDRLEN:]
		return Event{
			Generation: u32(attribute(attrs, unix.NFTA_GEN_ID)),
			PID:        u32(attribute(attrs, unix.NFTA_GEN_PROC_PID)),
			Program:    text(attribute(attrs, unix.NFTA_GEN_PROC_NAME)),
		}, true
	}
	return Event{}, false
}
