// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Shape returns how much a table holds; that it is not there is an error that is fs.ErrNotExist. If a transaction came
// in between, the error is [ErrTorn], and the shape may be of neither moment. Elements are counted where the kernel has
// their number at hand (Linux 6.16), but not in sets of intervals, which it counts by their ends.
func (c *Conn) Shape(ctx context.Context, table string) (nft.Shape, error) {
	shape := nft.Shape{Chains: make(map[string]int), Sets: make(map[string]int)}
	err := c.once(ctx, func() error {
		var err error
		if shape.Owned, err = c.owns(ctx, table); err != nil || shape.Owned {
			return err
		}
		every := c.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, func(*batch) {})
		err = c.exchange(ctx, every, func(attrs []byte) {
			if text(attribute(attrs, unix.NFTA_CHAIN_TABLE)) == table {
				name := text(attribute(attrs, unix.NFTA_CHAIN_NAME))
				shape.Chains[name] = int(u32(attribute(attrs, unix.NFTA_CHAIN_USE)))
			}
		})
		if err != nil {
			return err
		}
		named := func(b *batch) { b.str(unix.NFTA_SET_TABLE, table) }
		return c.exchange(ctx, c.request(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, named), func(attrs []byte) {
			if name, elements := setSize(attrs); name != "" {
				shape.Sets[name] = elements
			}
		})
	})
	if err != nil {
		return shape, fmt.Errorf("read the sizes of table %s: %w", table, err)
	}
	return shape, nil
}

// owns says whether the connection owns a table.
func (c *Conn) owns(ctx context.Context, table string) (bool, error) {
	owns := false
	named := func(b *batch) { b.str(unix.NFTA_TABLE_NAME, table) }
	err := c.exchange(ctx, c.request(unix.NFT_MSG_GETTABLE, 0, named), func(attrs []byte) {
		owner := attribute(attrs, tableOwnerPort)
		owns = owner != nil && u32(owner) == c.port
	})
	return owns, err
}

// setSize returns the name and the number of elements of a set that does not belong to a rule.
func setSize(attrs []byte) (name string, elements int) {
	flags := u32(attribute(attrs, unix.NFTA_SET_FLAGS))
	if flags&unix.NFT_SET_ANONYMOUS != 0 {
		return "", 0
	}
	elements = nft.Unknown
	if count := attribute(attrs, setCount); count != nil && flags&unix.NFT_SET_INTERVAL == 0 {
		elements = int(u32(count))
	}
	return text(attribute(attrs, unix.NFTA_SET_NAME)), elements
}
