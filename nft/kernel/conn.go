// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
	"github.com/netpold/netpold/nft/stages"
)

// Config says how to connect. The zero value is ready to use.
type Config struct {
	// Needs is what the tables will need from the kernel: Open tries each of these, and nothing else.
	Needs Needs

	// Own makes the connection the owner of the tables it creates, if the kernel can (Linux 6.9): nobody else may
	// change them, `nft flush ruleset` skips them, and they stay in force without an owner when the connection is
	// closed.
	Own bool
}

// Conn is a connection to nf_tables. It is safe for concurrent use: transactions are committed one after another, and
// reads run beside them. Transactions may read, too, so heavy readers should have a [Reader] of their own.
type Conn struct {
	*Reader

	config Config
	port   uint32 // of the socket that writes

	// Set by probe.
	flags     uint32 // of new tables
	flushMaps bool   // before their deletion
	everyWay  bool   // a commit walks every way through the chains

	mu       sync.Mutex // guards the fields below
	socket   *socket
	seq      uint32            // of the next message
	buf      []byte            // of the last message.Batch; reused
	messages []message.Message // of the last message.Batch; reused
	answer   []byte
	watchers map[*Watcher]struct{}
}

const (
	// bytes of answers that the socket holds: a refused batch may get one for each message
	answers     = 4 << 20
	answerBytes = 16 << 10 // of one answer: a header and some attributes
	keepBuffer  = 1 << 20  // largest message.Batch buffer, in bytes, that is kept for the next one
)

// Open connects to nf_tables in the network namespace of the calling thread, and tries out what [Config] says will be
// needed on a table of its own, which it deletes. The error says what is missing: CAP_NET_ADMIN, or something that the
// kernel lacks, which is an ErrNotSupported and names the Linux version.
func Open(config Config) (*Conn, error) {
	c, err := connect(config)
	if err != nil {
		return nil, fmt.Errorf("connect to nf_tables: %w", err)
	}
	if err := c.probe(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// connect opens the sockets.
func connect(config Config) (*Conn, error) {
	writer, err := dial(answers)
	if err != nil {
		return nil, err
	}
	reader, err := OpenReader()
	if err != nil {
		_ = writer.close()
		return nil, err
	}
	return &Conn{
		Reader:   reader,
		config:   config,
		port:     writer.conn.PID(),
		socket:   writer,
		seq:      1,
		answer:   make([]byte, answerBytes),
		watchers: make(map[*Watcher]struct{}),
	}, nil
}

// Close closes the connection, but not its watchers. Tables that it owns stay in force without an owner.
func (c *Conn) Close() error {
	return errors.Join(c.socket.close(), c.Reader.Close())
}

// Owns says whether the connection owns the tables it creates: [Config].Own was set, and the kernel can.
func (c *Conn) Owns() bool { return c.flags&message.TableOwner != 0 }

// A Lack is a feature that the kernel lacks and netpold can do without.
type Lack struct {
	What   string // in one clause
	Since  string // the Linux versions that have it
	Effect string // of the lack on enforcement
}

// Lacks returns what the kernel lacks of what [Config] asks for.
func (c *Conn) Lacks() []Lack {
	var lacks []Lack
	if c.config.Own && !c.Owns() {
		lacks = append(lacks, Lack{"the table is not owned", "6.9",
			"others can change or delete it; netpold notices and restores it, and until then their change applies"})
	}
	if c.flushMaps {
		lacks = append(lacks, Lack{"maps must be flushed before they are deleted", hasMapRelease,
			"none, but changes of large policies block other writers of nf_tables longer"})
	}
	if c.everyWay {
		lacks = append(lacks, Lack{"a commit walks every way through the chains, and not each chain once", hasOneWalk,
			"none, but packets cross two base chains"})
	}
	return lacks
}

// WalksEveryWay says whether a commit walks every way through the chains, instead of each chain once, so that nested
// jumps multiply its cost. It is known only if [Config].Needs has Policies.
func (c *Conn) WalksEveryWay() bool { return c.everyWay }

// Apply commits a transaction: all of it or, with an error, nothing that a packet can meet. It commits the stages of
// [stages.Of] one after the other. A nil transaction is a no-op.
//
// The kernel works while the caller waits, some 10 ms for 10,000 elements, and cannot be interrupted: ctx counts until
// a stage is sent. If something has no encoding, or the kernel refuses it, the error is an [*nft.Refused]. After
// [ErrStateUnknown], and only then, the transaction may have been committed. Its table considers it committed in any
// case; after an error, [nft.Table.Forget] corrects that. Even with an error, the result has what was deleted before.
func (c *Conn) Apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var result nft.Result
	for _, stage := range stages.Of(tx) {
		r, err := c.apply(ctx, stage)
		result.Add(r)
		if err != nil {
			return result, err
		}
	}
	return result, nil
}

// apply commits a transaction without splitting it.
func (c *Conn) apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error) {
	if err := ctx.Err(); err != nil {
		return nft.Result{}, err
	}
	e := message.Encoder{
		Batch:      message.Batch{Buf: c.buf[:0], Messages: c.messages[:0], Seq: c.seq},
		Tx:         tx,
		TableFlags: c.flags,
		FlushMaps:  c.flushMaps,
	}
	err := e.Encode()
	c.keep(&e.Batch)
	if err != nil {
		return nft.Result{}, err
	}
	if len(c.watchers) > 0 && tx.Len() > maxListened {
		return c.commitUnwatched(ctx, &e)
	}
	return c.commit(&e)
}

// keep keeps a batch's memory for the next one, unless it is unusually large.
func (c *Conn) keep(b *message.Batch) {
	c.seq += uint32(len(b.Messages))
	c.buf, c.messages = b.Buf, b.Messages
	if cap(b.Buf) > keepBuffer {
		c.buf, c.messages = nil, nil
	}
}

// DeleteTable deletes a table of the inet family. A missing table is not an error.
func (c *Conn) DeleteTable(ctx context.Context, name string) error {
	// Adding it first is faster than a refusal: the kernel waits for its readers, some 10 ms, before it answers ENOENT.
	tx := &nft.Transaction{Table: name, Ops: []nft.Op{{Verb: nft.AddTable}, {Verb: nft.DeleteTable}}}
	_, err := c.Apply(ctx, tx)
	return err
}

// unsettled is the assumed upper bound for a packet in flight, if the kernel cannot be asked. It takes microseconds,
// unless the (virtual) CPU is paused.
const unsettled = 250 * time.Millisecond

// Settle waits until every packet that was in nf_tables when it was called has left. Packets are RCU readers, and
// membarrier(2) waits for all of those, some 20 ms, unless CPUs run without a tick (nohz_full) or seccomp forbids it.
func (*Conn) Settle(ctx context.Context) error {
	const everybody = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, everybody, 0, 0); errno == 0 {
		return ctx.Err()
	}
	return pause(ctx, unsettled)
}
