// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
)

// Rules returns the kernel's rules of a chain in order, each compared with want's rule at its place. A missing chain
// has none.
func (r *Reader) Rules(ctx context.Context, table string, want *nft.Chain) ([]nft.HeldRule, error) {
	var found []nft.HeldRule
	elements := func(set string) ([]string, error) { return r.elementsOf(ctx, table, set) }
	err := r.consistently(ctx, func() error {
		var lists [][]byte // of expressions
		found = nil
		request := r.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(b *message.Batch) {
			b.Str(unix.NFTA_RULE_TABLE, table)
			b.Str(unix.NFTA_RULE_CHAIN, want.Name)
		})
		err := r.exchange(ctx, request, func(attrs []byte) {
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
	request := r.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(b *message.Batch) {
		b.Str(unix.NFTA_RULE_TABLE, table)
		b.Str(unix.NFTA_RULE_CHAIN, chain)
	})
	err := r.exchange(ctx, request, func(attrs []byte) {
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

// elementsOf reads a set that is part of a rule.
func (r *Reader) elementsOf(ctx context.Context, table, set string) ([]string, error) {
	var found []string
	request := r.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *message.Batch) {
		b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		b.Str(unix.NFTA_SET_ELEM_LIST_SET, set)
	})
	err := r.exchange(ctx, request, func(attrs []byte) { found = append(found, message.ElementTexts(attrs)...) })
	return found, err
}
