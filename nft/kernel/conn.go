// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Config says how to connect. The zero value is ready to use.
type Config struct {
	// NetNS is a file descriptor of the network namespace to connect to, which takes CAP_SYS_ADMIN and is used by Open and Watch
	// only. 0: the calling thread's.
	NetNS int

	// Own makes the connection the owner of the tables it creates, where the kernel can (Linux 6.9): nobody else may change them,
	// `nft flush ruleset` passes them by, and they stay in force without an owner when the connection is closed.
	Own bool
}

// Conn is a connection to nf_tables. It is safe for concurrent use; transactions are committed one after another.
type Conn struct {
	config Config
	flags  uint32 // of new tables

	mu     sync.Mutex // guards the fields below
	conn   *netlink.Conn
	raw    syscall.RawConn
	seq    uint32 // of the next message
	buf    []byte // of the last batch, to be used again
	marks  []message
	answer []byte
	wmem   int // size in bytes of the longest batch that the socket sends
}

const (
	readBuffer  = 4 << 20  // bytes of answers that the socket holds: a refused batch has one for each of its messages
	keepBuffer  = 1 << 20  // bytes of a batch's buffer that are kept for the next one
	answerBytes = 16 << 10 // an answer is a header and a few attributes
)

// Open connects to nf_tables.
func Open(config Config) (*Conn, error) {
	c, err := dial(config)
	if err != nil {
		return nil, fmt.Errorf("connect to nf_tables: %w", err)
	}
	return c, nil
}

// dial opens the connection that writes.
func dial(config Config) (*Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: config.NetNS})
	if err != nil {
		return nil, err
	}
	c := &Conn{config: config, conn: conn, seq: 1, answer: make([]byte, answerBytes)}
	if err := c.setUp(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) setUp() error {
	// The kernel shall name the attribute at fault, and not send the faulty message back: that can be 64 KiB.
	for _, o := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.CapAcknowledge} {
		if err := c.conn.SetOption(o, true); err != nil {
			return err
		}
	}
	if err := c.conn.SetReadBuffer(readBuffer); err != nil {
		return err
	}
	var err error
	if c.raw, err = c.conn.SyscallConn(); err != nil {
		return err
	}
	return c.readWriteBuffer()
}

// Close closes the connection. A table that it owns stays in force without an owner.
func (c *Conn) Close() error { return c.conn.Close() }

// Apply commits a transaction: all of it or, with an error, nothing. No transaction, nil, is committed at once.
//
// The kernel works while the caller waits, for some milliseconds per 10,000 elements, and cannot be interrupted: ctx counts until the
// transaction is sent. What the kernel refuses is an [Error]. After ErrStateUnknown, and only then, the transaction may have been
// committed. In either case the model that the transaction is from takes it for committed, and is put right by [nft.Table.Forget].
func (c *Conn) Apply(ctx context.Context, tx *nft.Transaction) error {
	if tx == nil || len(tx.Ops) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	e := encoder{
		batch:      batch{buf: c.buf[:0], messages: c.marks[:0], seq: c.seq},
		tx:         tx,
		tableFlags: c.flags,
	}
	err := e.encode()
	c.keep(&e.batch)
	if err != nil {
		return fmt.Errorf("encode transaction: %w", err)
	}
	return c.commit(&e)
}

// keep saves the memory of a batch for the next one, unless it is unusually large.
func (c *Conn) keep(b *batch) {
	c.seq += uint32(len(b.messages))
	c.buf, c.marks = b.buf, b.messages
	if cap(b.buf) > keepBuffer {
		c.buf, c.marks = nil, nil
	}
}

// DeleteTable deletes a table. That there is none is not an error.
func (c *Conn) DeleteTable(ctx context.Context, name string) error {
	tx := &nft.Transaction{Table: name, Ops: []nft.Op{{Verb: nft.DeleteTable}}}
	if err := c.Apply(ctx, tx); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
