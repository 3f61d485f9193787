// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// addrIn compiles
//
//	ip saddr 10.244.1.0/24
//	ip saddr != 10.244.1.0/24
//
// The kernel loads and masks 4 bytes without a function call, so an IPv4 address is loaded as a whole. For an IPv6
// prefix of whole bytes only those are loaded, as nft(8) does, which saves the mask.
func (r *rule) addrIn(m nft.AddrIn) {
	r.requireFamily(nft.FamilyOf(m.Prefix.Addr()))
	addr, bits := m.Prefix.Addr().AsSlice(), m.Prefix.Bits()
	n := len(addr)
	if n > 4 && bits%8 == 0 {
		n = bits / 8
	}
	masked := bits < 8*n
	load := addrField(nft.FamilyOf(m.Prefix.Addr()), m.Side, firstRegister)
	load.Len = uint32(n)
	r.push(&load)
	if masked {
		mask := make([]byte, n)
		for i := range bits {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		r.push(&expr.Bitwise{
			SourceRegister: firstRegister, DestRegister: firstRegister,
			Len: uint32(n), Mask: mask, Xor: make([]byte, n),
		})
	}
	is := &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: addr[:n]}
	if m.Not {
		is.Op = expr.CmpOpNeq
	}
	r.push(is)
}

// linkName compiles
//
//	iifname "cali*"
//	oifname "cni0"
func (r *rule) linkName(m nft.LinkName) {
	name, open := strings.CutSuffix(m.Name, "*")
	data := []byte(name)
	if !open {
		data = append(data, make([]byte, unix.IFNAMSIZ-len(name))...)
	}
	key := [...]expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME}[m.Side]
	r.push(&expr.Meta{Key: key, Register: firstRegister}, equal(data...))
}

// addrType compiles
//
//	fib saddr type local
func (r *rule) addrType(m nft.AddrType) {
	r.push(
		&expr.Fib{
			Register: firstRegister, ResultADDRTYPE: true,
			FlagSADDR: m.Side == nft.Source, FlagDADDR: m.Side == nft.Destination,
		},
		equal(binary.NativeEndian.AppendUint32(nil, uint32(m.Kind))...))
}
