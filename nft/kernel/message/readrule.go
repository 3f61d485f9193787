// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// SameRule says whether a rule that the kernel holds, as a list of expressions, does what want does. The kernel names
// the sets that are part of rules; elements returns the elements of one, as [ElementTexts] has them.
func SameRule(held []byte, want *nft.Rule, elements func(set string) ([]string, error)) (bool, error) {
	compiled := rule{nextSet: 1}
	if err := compiled.add(want.Statements); err != nil {
		return false, err
	}
	i := 0
	for _, x := range Attributes(held) {
		if i == len(compiled.exprs) {
			return false, nil
		}
		data, err := expr.Marshal(unix.NFPROTO_INET, compiled.exprs[i])
		if err != nil {
			return false, err
		}
		got, wanted := normal(x), normal(data)
		if lookup, ok := compiled.exprs[i].(*expr.Lookup); ok && lookup.SetID != 0 && got.name == "lookup" {
			set := got.attrs[unix.NFTA_LOOKUP_SET]
			found, err := elements(Value(set).Text())
			if err != nil || !compiled.sets[lookup.SetID-1].has(found) {
				return false, err
			}
			wanted.attrs[unix.NFTA_LOOKUP_SET] = set
		}
		if !got.equal(wanted) {
			return false, nil
		}
		i++
	}
	return i == len(compiled.exprs), nil
}

// RuleCount returns the packet count of a rule, given as a list of expressions.
func RuleCount(held []byte) uint64 {
	var sum uint64
	for _, x := range Attributes(held) {
		sum += packetsOf(x)
	}
	return sum
}

// has says whether the set has exactly these elements.
func (s *anonymous) has(found []string) bool {
	var wanted []string
	for _, el := range s.elements {
		wanted = append(wanted, el.text())
	}
	slices.Sort(found)
	slices.Sort(wanted)
	return slices.Equal(found, wanted)
}

// ElementTexts returns the elements in a message's attributes, in a form that is equal for equal elements.
func ElementTexts(attrs []byte) []string {
	var all []string
	for _, el := range Attributes(Attribute(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
		key := Attribute(Attribute(el, unix.NFTA_SET_ELEM_KEY), unix.NFTA_DATA_VALUE)
		e := Element{Key: key, Flags: Attribute(el, unix.NFTA_SET_ELEM_FLAGS).Uint32()}
		// for a concatenated interval, which none of ours is
		all = append(all, e.text()+string(Attribute(el, nftables.NFTA_SET_ELEM_KEY_END)))
	}
	return all
}

// text is a form that is equal for equal elements.
func (e Element) text() string { return fmt.Sprintf("%x %d", e.Key, e.Flags) }

// expression is an expression in a form that is equal for equal ones, whether we or the kernel wrote it.
type expression struct {
	name  string
	attrs map[uint16]string
}

func (e expression) equal(other expression) bool {
	return e.name == other.name && maps.Equal(e.attrs, other.attrs)
}

// normal brings an expression into that form. The order of attributes does not matter, nor do zeros, which either side
// may leave out.
func normal(x []byte) expression {
	e := expression{Attribute(x, unix.NFTA_EXPR_NAME).Text(), make(map[uint16]string)}
	if e.name == "counter" {
		return e // the rest is counts
	}
	registers := registersOf(e.name)
	for typ, v := range Attributes(Attribute(x, unix.NFTA_EXPR_DATA)) {
		switch {
		case e.name == "lookup" && typ == unix.NFTA_LOOKUP_SET_ID: // exists only within a transaction
		case e.name == "dynset" && typ == unix.NFTA_DYNSET_EXPR:
			e.attrs[typ] = Attribute(v, unix.NFTA_EXPR_NAME).Text() // the rest is the initial state of a new element
		case e.name == "immediate" && typ == unix.NFTA_IMMEDIATE_DATA: // only we mark what is nested in it
			verdict := Attribute(v, unix.NFTA_DATA_VERDICT)
			code, chain := Attribute(verdict, unix.NFTA_VERDICT_CODE), Attribute(verdict, unix.NFTA_VERDICT_CHAIN)
			e.attrs[typ] = fmt.Sprintf("%x %x %s", Attribute(v, unix.NFTA_DATA_VALUE), code, chain.Text())
		case slices.Contains(registers, typ):
			e.attrs[typ] = fmt.Sprint(register(v.Uint32()))
		case len(bytes.Trim(v, "\x00")) > 0:
			e.attrs[typ] = string(v)
		}
	}
	return e
}

// registersOf returns the attributes of an expression that are registers.
func registersOf(name string) []uint16 {
	return map[string][]uint16{
		"meta":      {unix.NFTA_META_DREG, unix.NFTA_META_SREG},
		"ct":        {unix.NFTA_CT_DREG, unix.NFTA_CT_SREG},
		"payload":   {unix.NFTA_PAYLOAD_DREG, unix.NFTA_PAYLOAD_SREG},
		"lookup":    {unix.NFTA_LOOKUP_SREG, unix.NFTA_LOOKUP_DREG},
		"cmp":       {unix.NFTA_CMP_SREG},
		"bitwise":   {unix.NFTA_BITWISE_SREG, unix.NFTA_BITWISE_DREG},
		"dynset":    {unix.NFTA_DYNSET_SREG_KEY},
		"fib":       {unix.NFTA_FIB_DREG},
		"immediate": {unix.NFTA_IMMEDIATE_DREG},
	}[name]
}

// register returns the number of a 4-byte register. The kernel reports every fourth one by the number of the 16-byte
// register that it starts.
func register(n uint32) uint32 {
	if n >= unix.NFT_REG_1 && n <= unix.NFT_REG_4 {
		return unix.NFT_REG32_00 + (n-unix.NFT_REG_1)*4
	}
	return n
}
