// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Event is a transaction that somebody else committed in the network namespace.
type Event struct {
	Program string   // the process's name, cut to 15 bytes by the kernel
	Tables  []string // the tables of the inet family in which something changed

	// Lost says that the kernel could not deliver everything: anybody may have changed anything. The other fields are
	// zero.
	Lost bool
}

// Watcher reports the transactions that others commit. It is for one goroutine; only Close may be called from another.
type Watcher struct {
	conn   *Conn
	socket *socket
	buf    []byte
	tables []string    // of the transaction whose notifications are arriving
	behind bool        // the socket may drop more without notice
	read   int         // datagrams since the last Lost event, while behind
	missed atomic.Bool // a Lost event is due
}

const (
	// notifications is the size in bytes of the watcher's socket buffer: room for some 100,000 changed objects.
	notifications = 8 << 20

	// maxListened is the largest own transaction, in operations, that is committed while watchers listen.
	maxListened = 5000

	// maxBehind is the number of datagrams after which a watcher that has not caught up reports a loss again.
	maxBehind = 10_000
)

// Watch returns a watcher of everybody's transactions but those of c, from this moment on: what is read from the kernel
// after Watch returns is as the events say, or newer. It is for the network namespace of the calling thread, which is
// to be that of Open.
//
// While anybody listens, the kernel keeps some 6 kB for each object that a transaction changes, until its end: 200,000
// elements took 1.2 GB and 1.5 s instead of 0.5 s (Linux 6.18). So c commits its own large transactions while its
// watchers do not listen; if somebody else commits meanwhile, that is a Lost event.
func (c *Conn) Watch() (*Watcher, error) {
	s, err := dial(notifications)
	if err != nil {
		return nil, fmt.Errorf("watch nf_tables: %w", err)
	}
	w := &Watcher{conn: c, socket: s, buf: make([]byte, readChunk)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := w.subscribe(c.port); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("watch nf_tables: %w", err)
	}
	c.watchers[w] = struct{}{}
	return w, nil
}

// commitUnwatched commits a batch while the watchers do not listen. The generation tells whether somebody else
// committed meanwhile.
func (c *Conn) commitUnwatched(ctx context.Context, e *message.Encoder) (nft.Result, error) {
	want, err := c.Generation(ctx)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		return nft.Result{}, err
	}
	for w := range c.watchers {
		w.leave()
	}
	result, err := c.commit(e)
	for w := range c.watchers {
		w.rejoin()
	}
	if err == nil {
		want++
	}
	got, readErr := c.generation(context.WithoutCancel(ctx))
	if got != want || readErr != nil {
		for w := range c.watchers {
			w.miss()
		}
	}
	return result, err
}

// settle waits until the kernel has notified of all transactions that the generation counts: it raises the generation
// first, and notifies at the end of a transaction. It commits an empty batch, which changes nothing but waits for its
// turn.
func (c *Conn) settle() error {
	b := message.Batch{Seq: c.seq}
	b.Begin()
	b.End()
	c.seq += uint32(len(b.Messages))
	return c.socket.send(b.Buf)
}

// subscribe joins nf_tables' notification group: one notification for each changed object, many in a datagram, and one
// at the end of the transaction. A socket filter drops those of one port, so that our own transactions cost the watcher
// nothing.
func (w *Watcher) subscribe(own uint32) error {
	const port = 12 // offset in the netlink header
	// The filter reads numbers in network byte order; the port is in the host's.
	swapped := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, own))
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: port, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: swapped, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffffffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	if err := w.socket.conn.SetBPF(program); err != nil {
		return err
	}
	return w.socket.conn.JoinGroup(unix.NFNLGRP_NFTABLES)
}

// leave stops the notifications, and rejoin resumes them. A watcher that fails to is closed rather than left deaf.
func (w *Watcher) leave() {
	if err := w.socket.conn.LeaveGroup(unix.NFNLGRP_NFTABLES); err != nil {
		_ = w.socket.close()
	}
}

func (w *Watcher) rejoin() {
	if err := w.socket.conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		_ = w.socket.close()
	}
}

// miss makes Next return a Lost event.
func (w *Watcher) miss() {
	w.missed.Store(true)
	w.wake()
}

// wake ends a wait in Next.
func (w *Watcher) wake() { _ = w.socket.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close stops the watcher. A waiting Next returns net.ErrClosed.
func (w *Watcher) Close() error {
	err := w.socket.close()
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()
	delete(w.conn.watchers, w)
	return err
}

// Next waits for the next event, until ctx is done or the watcher is closed.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	defer context.AfterFunc(ctx, w.wake)()
	for ctx.Err() == nil {
		if w.missed.Swap(false) || w.read > maxBehind {
			return w.lost(), nil
		}
		n, err := w.next()
		if errors.Is(err, os.ErrDeadlineExceeded) { // woken, perhaps late, for the previous call
			err = w.socket.conn.SetReadDeadline(time.Time{})
			n = 0
		}
		switch {
		case errors.Is(err, unix.ENOBUFS), w.behind && errors.Is(err, unix.EAGAIN):
			w.behind = errors.Is(err, unix.ENOBUFS)
			return w.lost(), nil
		case err != nil:
			return Event{}, fmt.Errorf("watch nf_tables: %w", err)
		}
		if e, ended := w.decode(w.buf[:n]); ended {
			return e, nil
		}
	}
	return Event{}, ctx.Err()
}

// next reads a datagram. The kernel reports drops once, and not again before everything left has been read: so while
// the watcher is behind, running out of datagrams means that some may have been dropped since.
func (w *Watcher) next() (int, error) {
	if !w.behind {
		return w.socket.wait(w.buf)
	}
	w.read++
	return w.socket.receive(w.buf)
}

// lost returns a Lost event. An incomplete transaction counts as lost.
func (w *Watcher) lost() Event {
	w.tables, w.read = nil, 0
	return Event{Lost: true}
}

// decode takes a datagram of notifications. It returns the transaction that ended with it, if any: the final
// notification comes in a datagram of its own.
func (w *Watcher) decode(b []byte) (Event, bool) {
	const ended = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	for h, body := range message.Messages(b) {
		if len(body) < message.GenericLen {
			continue
		}
		family, attrs := body[0], body[message.GenericLen:]
		if h.Type == ended {
			e := Event{
				Program: message.Attribute(attrs, unix.NFTA_GEN_PROC_NAME).Text(),
				Tables:  w.tables,
			}
			w.tables = nil
			return e, true
		}
		// Whatever the object is, its table's name is attribute 1.
		table := bytes.TrimSuffix(message.Attribute(attrs, unix.NFTA_TABLE_NAME), []byte{0})
		known := func(name string) bool { return name == string(table) }
		if len(table) > 0 && family == unix.NFPROTO_INET && !slices.ContainsFunc(w.tables, known) {
			w.tables = append(w.tables, string(table))
		}
	}
	return Event{}, false
}
