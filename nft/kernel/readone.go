// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Element returns the element of a set that a lookup of k ends at: k itself or, of intervals, the one around its first address or
// port. That there is none is an error that is [fs.ErrNotExist]. It costs the same however many elements the set has.
func (r *Reader) Element(ctx context.Context, table string, s *nft.Set, k nft.Key) (nft.Counted, error) {
	q := elementQuery{r, table, s}
	key, err := appendKey(nil, s.Type, &k)
	if err != nil {
		return nft.Counted{}, err
	}
	var found nft.Counted
	err = r.consistently(ctx, func() error {
		d, err := q.ask(ctx, rawElement{key: key})
		if err != nil {
			return err
		}
		if len(d.found) != 1 {
			return ErrTorn
		}
		if s.Type.Interval() {
			if d.ends, err = q.end(ctx, d.found[0].Key); err != nil {
				return err
			}
		}
		found = d.finish()[0]
		return nil
	})
	if err != nil {
		return nft.Counted{}, fmt.Errorf("read an element of set %s: %w", s.Name, err)
	}
	return found, nil
}

// elementQuery asks for single elements of a set.
type elementQuery struct {
	reader *Reader
	table  string
	set    *nft.Set
}

// ask returns the element that the kernel finds by a key: in an interval its start or, with that flag, its end.
func (q elementQuery) ask(ctx context.Context, el rawElement) (*elementDecoder, error) {
	var e encoder
	// It is to be acknowledged: of an end that is not there Linux 6.18 says nothing.
	e.command(message{}, unix.NFT_MSG_GETSETELEM, unix.NLM_F_ACK, func() {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, q.table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, q.set.Name)
		e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() { e.element(el, func() {}) })
	})
	d := &elementDecoder{typ: q.set.Type}
	return d, q.reader.exchange(ctx, &e.batch, d.message)
}

// ends is ask for the end of an interval, of which there is one or none.
func (q elementQuery) ends(ctx context.Context, key []byte) ([]nft.Key, error) {
	d, err := q.ask(ctx, rawElement{key: key, flags: unix.NFT_SET_ELEM_INTERVAL_END})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return d.ends, err
}

// end returns the end of the interval that starts at a key; one up to the top has none. Where the end of one interval is the start of
// another, the kernel takes a question for the end there as one about either.
func (q elementQuery) end(ctx context.Context, start nft.Key) ([]nft.Key, error) {
	start.To, start.Last = start.Addr, start.Port
	key, err := appendKey(nil, q.set.Type, &start)
	if err != nil {
		return nil, err
	}
	ends, err := q.ends(ctx, key)
	if err != nil || len(ends) == 0 || ends[0].Addr != start.Addr || ends[0].Port != start.Port {
		return ends, err
	}
	// It was the end of the interval before. What is behind the start is not at the end of that.
	key, err = appendEnd(key[:0], q.set.Type, &start)
	if err != nil || len(key) == 0 {
		return nil, err
	}
	d, err := q.ask(ctx, rawElement{key: key})
	if err == nil && len(d.found) == 1 && d.found[0].Addr == start.Addr && d.found[0].Port == start.Port {
		return q.ends(ctx, key)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	return []nft.Key{d.key(key)}, nil // another interval or none: this one has its start alone
}
