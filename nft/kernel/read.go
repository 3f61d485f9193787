// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Elements returns the elements of a set, which is of type t, in no order. They are those of one moment: a read that something came
// in between is repeated, some times within about a second, and in the end with our own transactions held up. One read takes some
// 0.3 s for 100,000 elements.
func (c *Conn) Elements(ctx context.Context, table, set string, t nft.SetType) ([]nft.Counted, error) {
	var found []nft.Counted
	err := c.consistently(ctx, func() error {
		d := elementDecoder{typ: t}
		request := c.reader.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *batch) {
			b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, set)
		})
		if err := c.reader.exchange(ctx, request, d.message); err != nil {
			return err
		}
		found = d.finish()
		return d.err()
	})
	if err != nil {
		return nil, fmt.Errorf("read set %s: %w", set, err)
	}
	return found, nil
}

// Hooked says whether a table has a chain of that name: of a base chain, whether packets meet it.
func (c *Conn) Hooked(ctx context.Context, table, chain string) (bool, error) {
	request := c.reader.request(unix.NFT_MSG_GETCHAIN, 0, func(b *batch) {
		b.str(unix.NFTA_CHAIN_TABLE, table)
		b.str(unix.NFTA_CHAIN_NAME, chain)
	})
	err := c.reader.exchange(ctx, request, func([]byte) {})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read chain %s of table %s: %w", chain, table, err)
	}
	return true, nil
}

// Rules returns the handles of a chain's rules, in their order; `nft -a list chain` shows them. A chain that is not there has none.
func (c *Conn) Rules(ctx context.Context, table, chain string) ([]uint64, error) {
	var found []uint64
	err := c.consistently(ctx, func() error {
		found = nil
		request := c.reader.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(b *batch) {
			b.str(unix.NFTA_RULE_TABLE, table)
			b.str(unix.NFTA_RULE_CHAIN, chain)
		})
		return c.reader.exchange(ctx, request, func(attrs []byte) {
			if text(attribute(attrs, unix.NFTA_RULE_CHAIN)) == chain {
				found = append(found, u64(attribute(attrs, unix.NFTA_RULE_HANDLE)))
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read chain %s: %w", chain, err)
	}
	return found, nil
}

// Generation returns the number of the ruleset, which every transaction in the network namespace raises, whoever commits it.
func (c *Conn) Generation(ctx context.Context) (uint32, error) {
	id, err := c.reader.generation(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the generation of nf_tables: %w", err)
	}
	return id, nil
}

// reader reads from nf_tables on a socket of its own, so that a long read does not keep a transaction waiting.
type reader struct {
	socket *socket

	mu  sync.Mutex // guards the fields below, and is held for a whole exchange
	seq uint32
	buf []byte
}

// readChunk is the length in bytes of what the kernel sends at once; it sends no more than 32 KiB. The kernel starts each chunk by
// walking the set from its beginning, so that small chunks cost the square of the number of elements.
const readChunk = 64 << 10

// maxReads is how often something is read until nothing comes in between: politeReads times beside our own
// transactions, then with those held up. The pause after each read is twice that after the one before.
const (
	maxReads    = 10
	politeReads = 5
	firstPause  = time.Millisecond
)

// errTorn says that a read is not that of one moment.
var errTorn = errors.New("nf_tables changed during every read of it")

// consistently calls read until it returns no errTorn and no transaction was committed while it ran. The kernel does not tell when a
// dump misses elements or has some twice because others were added or deleted meanwhile.
func (c *Conn) consistently(ctx context.Context, read func() error) error {
	for i := range maxReads {
		once := c.reader.once
		if i >= politeReads {
			once = c.onceAlone
		}
		if err := once(ctx, read); !errors.Is(err, errTorn) {
			return err
		}
		if err := pause(ctx, firstPause<<i); err != nil {
			return err
		}
	}
	return errTorn
}

// onceAlone is reader.once without transactions of our own.
func (c *Conn) onceAlone(ctx context.Context, read func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader.once(ctx, read)
}

// once calls read, and returns errTorn if a transaction was committed while it ran.
func (r *reader) once(ctx context.Context, read func() error) error {
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
		return errTorn
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

// generation returns the number of the ruleset, which every transaction in the network namespace increments.
func (r *reader) generation(ctx context.Context) (uint32, error) {
	var id uint32
	request := r.request(unix.NFT_MSG_GETGEN, 0, func(*batch) {})
	err := r.exchange(ctx, request, func(attrs []byte) {
		id = u32(attribute(attrs, unix.NFTA_GEN_ID))
	})
	return id, err
}

// request returns a message that asks for something.
func (r *reader) request(typ, flags uint16, attrs func(*batch)) *batch {
	var b batch
	b.command(message{}, typ, flags, func() { attrs(&b) })
	return &b
}

// exchange sends a request and calls each with the attributes of each message of the reply. They are valid during the call.
func (r *reader) exchange(ctx context.Context, request *batch, each func(attrs []byte)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.drain(); err != nil {
		return err
	}
	r.seq++
	binary.NativeEndian.PutUint32(request.buf[8:], r.seq)
	if err := r.socket.send(request.buf); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.socket.receive(r.buf) // never has to wait: the kernel answers inside the calls
		if err != nil {
			return err
		}
		if last, err := r.reply(r.buf[:n], each); err != nil || last {
			return err
		}
	}
}

// drain reads what is left of a reply that was given up.
func (r *reader) drain() error {
	if r.buf == nil {
		r.buf = make([]byte, readChunk)
	}
	for {
		switch _, err := r.socket.receive(r.buf); {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return err
		}
	}
}

// reply takes a datagram of a reply. It says whether that is the last one.
func (r *reader) reply(b []byte, each func(attrs []byte)) (bool, error) {
	const generic = headerLen - unix.NLMSG_HDRLEN // length of nfgenmsg
	last := false
	for h, body := range messages(b) {
		switch {
		case h.Sequence != r.seq:
			continue
		case h.Type == unix.NLMSG_ERROR || h.Type == unix.NLMSG_DONE:
			if errno := errorNumber(body); errno != 0 {
				return true, errno
			}
		case len(body) >= generic:
			each(body[generic:])
		}
		last = h.Type == unix.NLMSG_DONE || h.Flags&unix.NLM_F_MULTI == 0
	}
	return last, nil
}

// counterOf returns the values of an expression that is a counter, or zero.
func counterOf(x []byte) nft.Count {
	if text(attribute(x, unix.NFTA_EXPR_NAME)) != "counter" {
		return nft.Count{}
	}
	data := attribute(x, unix.NFTA_EXPR_DATA)
	return nft.Count{
		Packets: u64(attribute(data, unix.NFTA_COUNTER_PACKETS)),
		Bytes:   u64(attribute(data, unix.NFTA_COUNTER_BYTES)),
	}
}
