// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Reader reads from nf_tables on its own socket. One caller reads at a time; others wait for their turn until their
// context ends. Reads do not wait for transactions, nor transactions for reads: the kernel answers during commits.
type Reader struct {
	conn *netlink.Conn
	turn chan struct{} // capacity 1: full during an exchange
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
		d, err := r.elements(ctx, elementsOf(table, set), t)
		if err != nil {
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

// Element returns the element of a set that a lookup of k finds: k itself or, among intervals, the one around its first
// address or port; [fs.ErrNotExist] if there is none. Its cost does not depend on the size of the set.
func (r *Reader) Element(ctx context.Context, table string, s *nft.Set, k nft.Key) (nft.Counted, error) {
	key, err := message.AppendKey(nil, s.Type, &k)
	if err != nil {
		return nft.Counted{}, err
	}
	var found nft.Counted
	err = r.consistently(ctx, func() error {
		q := elementsOf(table, s.Name)
		q.flags = netlink.Acknowledge // because Linux 6.18 does not answer at all about a missing end
		q.element = message.Element{Key: key}
		d, err := r.elements(ctx, q, s.Type)
		if err != nil {
			return err
		}
		if len(d.Found) != 1 {
			return ErrTorn
		}
		if s.Type.Interval() {
			if d.Ends, err = r.end(ctx, q, s.Type, d.Found[0].Key); err != nil {
				return err
			}
		}
		found = d.Finish()[0]
		return nil
	})
	if err != nil {
		return nft.Counted{}, fmt.Errorf("read an element of set %s: %w", s.Name, err)
	}
	return found, nil
}

// elements asks for elements of a set of type t.
func (r *Reader) elements(ctx context.Context, q query, t nft.SetType) (*message.Elements, error) {
	d := &message.Elements{Type: t}
	return d, r.exchange(ctx, q, d.Message)
}

// end returns the end of the interval that starts at a key, in the set of a query; one up to the top has none. Kernel
// versions answer differently when asked for the end at an address where an interval starts or ends, so the query is
// for the address after the start, if the interval has it.
func (r *Reader) end(ctx context.Context, q query, t nft.SetType, start nft.Key) ([]nft.Key, error) {
	start.To, start.Last = start.Addr, start.Port
	behind, err := message.AppendEnd(nil, t, &start)
	if err != nil || len(behind) == 0 {
		return nil, err
	}
	q.element.Key = behind
	d, err := r.elements(ctx, q, t)
	switch {
	case errors.Is(err, unix.ENOENT),
		err == nil && len(d.Found) == 1 && (d.Found[0].Addr != start.Addr || d.Found[0].Port != start.Port):
		return []nft.Key{d.Key(behind)}, nil // nothing, or another interval
	case err != nil:
		return nil, err
	}
	q.element.Flags = unix.NFT_SET_ELEM_INTERVAL_END
	d, err = r.elements(ctx, q, t)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return d.Ends, err
}

// Rules returns the kernel's rules of a chain in order, each compared with want's rule at its place. A missing chain
// has none.
func (r *Reader) Rules(ctx context.Context, table string, want *nft.Chain) ([]nft.HeldRule, error) {
	var found []nft.HeldRule
	elements := func(set string) (texts []string, err error) {
		err = r.exchange(ctx, elementsOf(table, set), func(attrs []byte) {
			texts = append(texts, message.ElementTexts(attrs)...)
		})
		return texts, err
	}
	err := r.consistently(ctx, func() error {
		var lists [][]byte // of expressions
		found = nil
		err := r.exchange(ctx, rulesOf(table, want.Name), func(attrs []byte) {
			if message.Attribute(attrs, unix.NFTA_RULE_CHAIN).Text() == want.Name {
				found = append(found, nft.HeldRule{Handle: message.Attribute(attrs, unix.NFTA_RULE_HANDLE).Uint64()})
				lists = append(lists, bytes.Clone(message.Attribute(attrs, unix.NFTA_RULE_EXPRESSIONS)))
			}
		})
		for i := 0; i < min(len(lists), len(want.Rules)) && err == nil; i++ {
			found[i].Same, err = message.SameRule(lists[i], &want.Rules[i], elements)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read chain %s: %w", want.Name, err)
	}
	return found, nil
}

// ChainCount returns the sum of a chain's rule counters, in packets; [fs.ErrNotExist] if there is no such chain, or no
// rule in it.
func (r *Reader) ChainCount(ctx context.Context, table, chain string) (uint64, error) {
	var sum uint64
	found := false
	err := r.exchange(ctx, rulesOf(table, chain), func(attrs []byte) {
		if message.Attribute(attrs, unix.NFTA_RULE_CHAIN).Text() == chain {
			sum += message.RuleCount(message.Attribute(attrs, unix.NFTA_RULE_EXPRESSIONS))
			found = true
		}
	})
	if err == nil && !found {
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, fmt.Errorf("read the counters of chain %s: %w", chain, err)
	}
	return sum, nil
}

// Hooked says whether a table has a chain of that name; for a base chain, that means packets meet it.
func (r *Reader) Hooked(ctx context.Context, table, chain string) (bool, error) {
	q := query{typ: unix.NFT_MSG_GETCHAIN, table: table, name: chain}
	err := r.exchange(ctx, q, func([]byte) {})
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
		return r.exchange(ctx, everyChain(), func(attrs []byte) {
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

// generation is Generation without a word about what failed.
func (r *Reader) generation(ctx context.Context) (uint32, error) {
	var id uint32
	err := r.exchange(ctx, query{typ: unix.NFT_MSG_GETGEN}, func(attrs []byte) {
		id = message.Attribute(attrs, unix.NFTA_GEN_ID).Uint32()
	})
	return id, err
}

// query asks for an object of a table or, with [netlink.Dump], for all of its kind.
type query struct {
	typ         uint16
	flags       netlink.HeaderFlags
	table, name string          // name is that of a chain or set
	element     message.Element // of the set; without a key: all
}

func elementsOf(table, set string) query {
	return query{typ: unix.NFT_MSG_GETSETELEM, flags: netlink.Dump, table: table, name: set}
}

func rulesOf(table, chain string) query {
	return query{typ: unix.NFT_MSG_GETRULE, flags: netlink.Dump, table: table, name: chain}
}

// everyChain asks for the chains of all tables: the kernel knows no other dump of chains.
func everyChain() query { return query{typ: unix.NFT_MSG_GETCHAIN, flags: netlink.Dump} }

// message returns the query as a message to which the library gives a sequence number.
func (q query) message() netlink.Message {
	b := message.Batch{Buf: []byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}}
	b.Names(q.typ, q.table, q.name)
	if q.element.Key != nil {
		b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() { b.Element(q.element, func() {}) })
	}
	typ := netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | q.typ)
	return netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | q.flags}, Data: b.Buf}
}

// exchange asks a query and calls each with the attributes of each message of the reply.
func (r *Reader) exchange(ctx context.Context, q query, each func(attrs []byte)) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	if err := ctx.Err(); err != nil {
		return err
	}
	question, err := r.conn.Send(q.message())
	if err != nil {
		return err
	}
	for answered := false; !answered; { // never blocks: the kernel answers inside the calls
		answered = q.flags&netlink.Dump != 0 // which the library reads to its end, even if it is given up here
		for answer, err := range r.conn.ReceiveIter() {
			var refused *netlink.OpError
			switch {
			case errors.As(err, &refused):
				return refused.Err
			case err != nil:
				return err
			case answer.Header.Sequence != question.Header.Sequence: // left by an exchange that failed
				continue
			case ctx.Err() != nil && answer.Header.Flags&netlink.Multi != 0:
				return ctx.Err()
			case answer.Header.Type == netlink.Error: // an acknowledgement
			case len(answer.Data) >= message.GenericLen:
				each(answer.Data[message.GenericLen:])
			}
			answered = answered || q.flags&netlink.Acknowledge == 0 || answer.Header.Type == netlink.Error
		}
	}
	return nil
}
