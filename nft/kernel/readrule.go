// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Rules returns the rules that the kernel holds of a chain, in their order, each held against that of want at its
// place. A chain that is not there has none.
func (r *Reader) Rules(ctx context.Context, table string, want *nft.Chain) ([]nft.HeldRule, error) {
	var found []nft.HeldRule
	err := r.consistently(ctx, func() error {
		var lists [][]byte // of expressions
		found = nil
		request := r.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(b *batch) {
			b.str(unix.NFTA_RULE_TABLE, table)
			b.str(unix.NFTA_RULE_CHAIN, want.Name)
		})
		err := r.exchange(ctx, request, func(attrs []byte) {
			if text(attribute(attrs, unix.NFTA_RULE_CHAIN)) == want.Name {
				found = append(found, nft.HeldRule{Handle: u64(attribute(attrs, unix.NFTA_RULE_HANDLE))})
				lists = append(lists, bytes.Clone(attribute(attrs, unix.NFTA_RULE_EXPRESSIONS)))
			}
		})
		for i := 0; i < min(len(lists), len(want.Rules)) && err == nil; i++ {
			found[i].Same, err = r.same(ctx, heldRule{table, lists[i]}, &want.Rules[i])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read chain %s: %w", want.Name, err)
	}
	return found, nil
}

// heldRule is a rule of a table as the kernel tells of it: a list of expressions.
type heldRule struct {
	table string
	exprs []byte
}

// same says whether a rule does what it should.
func (r *Reader) same(ctx context.Context, held heldRule, want *nft.Rule) (bool, error) {
	compiled := rule{nextSet: 1}
	if err := compiled.add(want.Statements); err != nil {
		return false, err
	}
	i := 0
	for _, x := range attributes(held.exprs) {
		if i == len(compiled.exprs) {
			return false, nil
		}
		data, err := expr.Marshal(unix.NFPROTO_INET, compiled.exprs[i])
		if err != nil {
			return false, err
		}
		got, wanted := normal(x), normal(data)
		if lookup, ok := compiled.exprs[i].(*expr.Lookup); ok && lookup.SetID != 0 {
			same, err := r.sameSet(ctx, held.table, got, &compiled.sets[lookup.SetID-1])
			if err != nil || !same {
				return false, err
			}
			wanted.attrs[unix.NFTA_LOOKUP_SET] = got.attrs[unix.NFTA_LOOKUP_SET] // the kernel's name is its own
		}
		if !got.equal(wanted) {
			return false, nil
		}
		i++
	}
	return i == len(compiled.exprs), nil
}

// sameSet says whether the set that a lookup refers to has the elements that it should.
func (r *Reader) sameSet(ctx context.Context, table string, lookup expression, want *anonymous) (bool, error) {
	if lookup.name != "lookup" {
		return false, nil
	}
	var got, wanted []string
	request := r.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *batch) {
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		b.attr(unix.NFTA_SET_ELEM_LIST_SET, []byte(lookup.attrs[unix.NFTA_LOOKUP_SET]))
	})
	err := r.exchange(ctx, request, func(attrs []byte) {
		for _, el := range attributes(attribute(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			key := attribute(attribute(el, unix.NFTA_SET_ELEM_KEY), unix.NFTA_DATA_VALUE)
			e := rawElement{key: key, flags: u32(attribute(el, unix.NFTA_SET_ELEM_FLAGS))}
			// of a concatenated interval, which none of ours is
			got = append(got, e.text()+string(attribute(el, elemKeyEnd)))
		}
	})
	if err != nil {
		return false, err
	}
	for _, el := range want.elements {
		wanted = append(wanted, el.text())
	}
	slices.Sort(got)
	slices.Sort(wanted)
	return slices.Equal(got, wanted), nil
}

// text is a form that is equal for equal elements.
func (e rawElement) text() string { return fmt.Sprintf("%x %d", e.key, e.flags) }

// expression is an expression in a form that is equal for equal ones, whether we or the kernel wrote it.
type expression struct {
	name  string
	attrs map[uint16]string
}

func (e expression) equal(other expression) bool {
	return e.name == other.name && maps.Equal(e.attrs, other.attrs)
}

// normal brings an expression into that form. The order of attributes does not matter, nor do zeros, which one of the
// two may not write.
func normal(x []byte) expression {
	e := expression{text(attribute(x, unix.NFTA_EXPR_NAME)), make(map[uint16]string)}
	if e.name == "counter" {
		return e // the rest is what it has counted
	}
	registers, data := valuesOf(e.name)
	for typ, v := range attributes(attribute(x, unix.NFTA_EXPR_DATA)) {
		switch {
		case e.name == "lookup" && typ == unix.NFTA_LOOKUP_SET_ID: // of a transaction
		case e.name == "dynset" && typ == unix.NFTA_DYNSET_EXPR:
			e.attrs[typ] = text(attribute(v, unix.NFTA_EXPR_NAME)) // the rest is what a new element begins with
		case slices.Contains(registers, typ):
			e.attrs[typ] = fmt.Sprint(register(u32(v)))
		case slices.Contains(data, typ):
			verdict := attribute(v, unix.NFTA_DATA_VERDICT)
			code, chain := attribute(verdict, unix.NFTA_VERDICT_CODE), attribute(verdict, unix.NFTA_VERDICT_CHAIN)
			e.attrs[typ] = fmt.Sprintf("%x %x %s", attribute(v, unix.NFTA_DATA_VALUE), code, text(chain))
		case len(bytes.Trim(v, "\x00")) > 0:
			e.attrs[typ] = string(v)
		}
	}
	return e
}

// valuesOf returns which attributes of an expression are registers, and which are data.
func valuesOf(name string) (registers, data []uint16) {
	switch name {
	case "meta":
		return []uint16{unix.NFTA_META_DREG, unix.NFTA_META_SREG}, nil
	case "ct":
		return []uint16{unix.NFTA_CT_DREG, unix.NFTA_CT_SREG}, nil
	case "payload":
		return []uint16{unix.NFTA_PAYLOAD_DREG, unix.NFTA_PAYLOAD_SREG}, nil
	case "lookup":
		return []uint16{unix.NFTA_LOOKUP_SREG, unix.NFTA_LOOKUP_DREG}, nil
	case "cmp":
		return []uint16{unix.NFTA_CMP_SREG}, []uint16{unix.NFTA_CMP_DATA}
	case "bitwise":
		registers = []uint16{unix.NFTA_BITWISE_SREG, unix.NFTA_BITWISE_DREG}
		return registers, []uint16{unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR}
	case "dynset":
		return []uint16{unix.NFTA_DYNSET_SREG_KEY}, nil
	case "fib":
		return []uint16{unix.NFTA_FIB_DREG}, nil
	case "immediate":
		return []uint16{unix.NFTA_IMMEDIATE_DREG}, []uint16{unix.NFTA_IMMEDIATE_DATA}
	}
	return nil, nil
}

// register returns the number of a register of 4 bytes. The kernel tells every fourth of them by the number of the 16
// bytes that it begins.
func register(n uint32) uint32 {
	if n >= unix.NFT_REG_1 && n <= unix.NFT_REG_4 {
		return unix.NFT_REG32_00 + (n-unix.NFT_REG_1)*4
	}
	return n
}
