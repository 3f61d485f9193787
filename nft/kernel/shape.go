// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Shape returns how much a table holds; fs.ErrNotExist if there is no such table. If a transaction came in between, the
// error is [ErrTorn], and the shape may mix both states. Elements are counted if the kernel knows their number (Linux
// 6.16), but not in interval sets, where it counts the ends.
func (c *Conn) Shape(ctx context.Context, table string) (nft.Shape, error) {
	shape := nft.Shape{Chains: make(map[string]int), Sets: make(map[string]int)}
	err := c.once(ctx, func() error {
		err := c.exchange(ctx, query{typ: unix.NFT_MSG_GETTABLE, table: table}, func(attrs []byte) {
			owner := message.Attribute(attrs, message.TableOwnerPort)
			shape.Owned = owner != nil && owner.Uint32() == c.port
		})
		if err != nil || shape.Owned {
			return err
		}
		err = c.exchange(ctx, everyChain(), func(attrs []byte) {
			if message.Attribute(attrs, unix.NFTA_CHAIN_TABLE).Text() == table {
				name := message.Attribute(attrs, unix.NFTA_CHAIN_NAME).Text()
				shape.Chains[name] = int(message.Attribute(attrs, unix.NFTA_CHAIN_USE).Uint32())
			}
		})
		if err != nil {
			return err
		}
		sets := query{typ: unix.NFT_MSG_GETSET, flags: netlink.Dump, table: table}
		return c.exchange(ctx, sets, func(attrs []byte) {
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

// setSize returns the name and size of a set that is not part of a rule.
func setSize(attrs []byte) (name string, elements int) {
	flags := message.Attribute(attrs, unix.NFTA_SET_FLAGS).Uint32()
	if flags&unix.NFT_SET_ANONYMOUS != 0 {
		return "", 0
	}
	elements = nft.Unknown
	if count := message.Attribute(attrs, message.SetCount); count != nil && flags&unix.NFT_SET_INTERVAL == 0 {
		elements = int(count.Uint32())
	}
	return message.Attribute(attrs, unix.NFTA_SET_NAME).Text(), elements
}
