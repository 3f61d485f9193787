// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Reader reads from nf_tables on its own socket. One caller reads at a time; others wait for their turn until their
// context ends. Reads do not wait for transactions, nor transactions for reads: the kernel answers during commits.
type Reader struct {
	conn     *netlink.Conn
	turn     chan struct{} // capacity 1: full during an exchange; guards the fields below
	requests int           // sent so far
	left     bool          // part of the last reply may be unread
}

// OpenReader opens a reader, in the network namespace of the calling thread.
func OpenReader() (*Reader, error) {
	// Without the options of dial: the netlink library takes an extended answer with a capped request for a truncated
	// one (github.com/mdlayher/netlink/pull/176 left that open).
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: readChunk})
	if err != nil {
		return nil, fmt.Errorf("read from nf_tables: %w", err)
	}
	return &Reader{conn: conn, turn: make(chan struct{}, 1)}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.conn.Close() }

// Elements returns the elements of a set of type t, in no order, as of one moment: a read interrupted by a transaction
// is repeated, a few times within about a second. If all were interrupted, the error is [ErrTorn], and the elements are
// those of the last read. One read takes some 0.3 s for 100,000 elements. A dynamic set is read only once: an element
// may be missing, or there twice.
func (r *Reader) Elements(ctx context.Context, table, set string, t nft.SetType) ([]nft.Counted, error) {
	var found []nft.Counted
	read := r.consistently
	if t.Dynamic != (nft.Dynamic{}) {
		read = anyhow
	}
	err := read(ctx, func() error {
		d := message.Elements{Type: t}
		request := r.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *message.Batch) {
			b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			b.Str(unix.NFTA_SET_ELEM_LIST_SET, set)
		})
		if err := r.exchange(ctx, request, d.Message); err != nil {
			return err
		}
		found = d.Finish()
		if d.Twice() {
			return ErrTorn
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("read set %s: %w", set, err)
	}
	return found, nil
}

// Hooked says whether a table has a chain of that name; for a base chain, that means packets meet it.
func (r *Reader) Hooked(ctx context.Context, table, chain string) (bool, error) {
	request := r.request(unix.NFT_MSG_GETCHAIN, 0, func(b *message.Batch) {
		b.Str(unix.NFTA_CHAIN_TABLE, table)
		b.Str(unix.NFTA_CHAIN_NAME, chain)
	})
	err := r.exchange(ctx, request, func([]byte) {})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read chain %s of table %s: %w", chain, table, err)
	}
	return true, nil
}

// InForce says whether packets meet the table, that is whether it has a base chain of any name. It is false if there is
// no table.
func (r *Reader) InForce(ctx context.Context, table string) (bool, error) {
	hooked := false
	err := r.consistently(ctx, func() error {
		hooked = false
		request := r.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, func(*message.Batch) {})
		return r.exchange(ctx, request, func(attrs []byte) {
			ours := message.Attribute(attrs, unix.NFTA_CHAIN_TABLE).Text() == table
			hooked = hooked || ours && message.Attribute(attrs, unix.NFTA_CHAIN_HOOK) != nil
		})
	})
	if err != nil {
		return false, fmt.Errorf("read the base chains of table %s: %w", table, err)
	}
	return hooked, nil
}

// Generation returns the number of the ruleset, which every transaction in the network namespace raises, whoever
// commits it.
func (r *Reader) Generation(ctx context.Context) (uint32, error) {
	id, err := r.generation(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the generation of nf_tables: %w", err)
	}
	return id, nil
}

// readChunk is the size in bytes of a read; the kernel sends at most 32 KiB at once. It starts each chunk by walking
// the set from the beginning, so small chunks take quadratic time.
const readChunk = 64 << 10

// maxReads is how often an interrupted read is tried. Each pause is twice as long as the one before.
const (
	maxReads   = 10
	firstPause = time.Millisecond
)

// ErrTorn says that what was read is not from one moment.
var ErrTorn = errors.New("nf_tables changed during every read")

// consistently calls read until it returns no ErrTorn and no transaction was committed while it ran. The kernel does
// not report when a dump misses elements or has some twice because of changes meanwhile.
func (r *Reader) consistently(ctx context.Context, read func() error) error {
	for i := range maxReads {
		if err := r.once(ctx, read); !errors.Is(err, ErrTorn) {
			return err
		}
		if err := pause(ctx, firstPause<<i); err != nil {
			return err
		}
	}
	return ErrTorn
}

// anyhow calls read once, for sets that packets change at any moment. What is missed will be there the next time.
func anyhow(_ context.Context, read func() error) error {
	if err := read(); !errors.Is(err, ErrTorn) {
		return err
	}
	return nil
}

// once calls read, and returns ErrTorn if a transaction was committed while it ran.
func (r *Reader) once(ctx context.Context, read func() error) error {
	before, err := r.generation(ctx)
	if err != nil {
		return err
	}
	readErr := read()
	after, err := r.generation(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return ErrTorn
	}
	return readErr
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// generation is Generation without waiting for a turn.
func (r *Reader) generation(ctx context.Context) (uint32, error) {
	var id uint32
	request := r.request(unix.NFT_MSG_GETGEN, 0, func(*message.Batch) {})
	err := r.exchange(ctx, request, func(attrs []byte) {
		id = message.Attribute(attrs, unix.NFTA_GEN_ID).Uint32()
	})
	return id, err
}

// request returns a message that asks for something.
func (r *Reader) request(typ, flags uint16, attrs func(*message.Batch)) *message.Batch {
	var b message.Batch
	b.Command(message.Message{}, typ, flags, func() { attrs(&b) })
	return &b
}

// exchange sends a request and calls each with the attributes of each message of the reply. If a reply is abandoned,
// its rest is still read, so that it does not precede the next one.
func (r *Reader) exchange(ctx context.Context, request *message.Batch, each func(attrs []byte)) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.drain(); err != nil {
		return err
	}
	r.left = true
	sent, err := r.send(request)
	if err != nil {
		return err
	}
	r.requests++
	err = r.receive(ctx, sent.Flags, each)
	r.left = lost(err)
	return err
}

// send sends a request with the connection's next sequence number, and returns its header.
func (r *Reader) send(request *message.Batch) (netlink.Header, error) {
	var m netlink.Message
	if err := m.UnmarshalBinary(request.Buf); err != nil {
		return netlink.Header{}, err
	}
	m.Header.Sequence = 0
	sent, err := r.conn.Send(m)
	return sent.Header, err
}

// receive reads the reply to a request with these flags.
func (r *Reader) receive(ctx context.Context, flags netlink.HeaderFlags, each func(attrs []byte)) error {
	for done := false; !done; { // never blocks: the kernel answers inside the calls
		done = flags&netlink.Acknowledge == 0 // otherwise the end comes in a datagram of its own
		for answer, err := range r.conn.ReceiveIter() {
			const generic = message.HeaderLen - unix.NLMSG_HDRLEN // length of nfgenmsg
			var refused *netlink.OpError
			switch {
			case errors.As(err, &refused) && !lost(err):
				return refused.Err
			case err != nil:
				return err
			case answer.Header.Type == netlink.Error:
				done = true
			case ctx.Err() != nil && answer.Header.Flags&netlink.Multi != 0:
				return ctx.Err()
			case len(answer.Data) >= generic:
				each(answer.Data[generic:])
			}
		}
	}
	return nil
}

// drain reads the rest of a reply after a call has failed: everything before the answer to a request of its own.
func (r *Reader) drain() error {
	if !r.left {
		return nil
	}
	question, err := r.send(r.request(unix.NFT_MSG_GETGEN, 0, func(*message.Batch) {}))
	if err != nil {
		return err
	}
	for r.left {
		for answer, err := range r.conn.ReceiveIter() {
			if lost(err) {
				return err
			}
			r.left = r.left && answer.Header.Sequence != question.Sequence
		}
	}
	return nil
}

// lost says whether an error comes from a system call rather than from the kernel's answer.
func lost(err error) bool {
	var call *os.SyscallError
	return err != nil && (errors.As(err, &call) || !errors.As(err, new(unix.Errno)))
}
