// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Element returns the element of a set that a lookup of k finds: k itself or, among intervals, the one around its first
// address or port; [fs.ErrNotExist] if there is none. Its cost does not depend on the size of the set.
func (r *Reader) Element(ctx context.Context, table string, s *nft.Set, k nft.Key) (nft.Counted, error) {
	q := elementQuery{r, table, s}
	key, err := message.AppendKey(nil, s.Type, &k)
	if err != nil {
		return nft.Counted{}, err
	}
	var found nft.Counted
	err = r.consistently(ctx, func() error {
		d, err := q.ask(ctx, message.Element{Key: key})
		if err != nil {
			return err
		}
		if len(d.Found) != 1 {
			return ErrTorn
		}
		if s.Type.Interval() {
			if d.Ends, err = q.end(ctx, d.Found[0].Key); err != nil {
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

// elementQuery gets single elements of a set.
type elementQuery struct {
	reader *Reader
	table  string
	set    *nft.Set
}

// ask returns the element that the kernel finds for a key: for an interval its start or, with that flag, its end.
func (q elementQuery) ask(ctx context.Context, el message.Element) (*message.Elements, error) {
	var e message.Encoder
	// With an acknowledgement, because Linux 6.18 does not answer at all about a missing end.
	e.Command(message.Message{}, unix.NFT_MSG_GETSETELEM, unix.NLM_F_ACK, func() {
		e.Str(unix.NFTA_SET_ELEM_LIST_TABLE, q.table)
		e.Str(unix.NFTA_SET_ELEM_LIST_SET, q.set.Name)
		e.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() { e.Element(el, func() {}) })
	})
	d := &message.Elements{Type: q.set.Type}
	return d, q.reader.exchange(ctx, &e.Batch, d.Message)
}

// end returns the end of the interval that starts at a key; one up to the top has none. Kernel versions answer
// differently when asked for the end at an address where an interval starts or ends, so the query is for the address
// after the start, if the interval has it.
func (q elementQuery) end(ctx context.Context, start nft.Key) ([]nft.Key, error) {
	start.To, start.Last = start.Addr, start.Port
	behind, err := message.AppendEnd(nil, q.set.Type, &start)
	if err != nil || len(behind) == 0 {
		return nil, err
	}
	d, err := q.ask(ctx, message.Element{Key: behind})
	switch {
	case errors.Is(err, unix.ENOENT),
		err == nil && len(d.Found) == 1 && (d.Found[0].Addr != start.Addr || d.Found[0].Port != start.Port):
		return []nft.Key{d.Key(behind)}, nil // nothing, or another interval
	case err != nil:
		return nil, err
	}
	d, err = q.ask(ctx, message.Element{Key: behind, Flags: unix.NFT_SET_ELEM_INTERVAL_END})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return d.Ends, err
}
