// SPDX-License-Identifier: Apache-2.0

package message

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// update compiles
//
//	update @s { ip saddr . ip daddr . meta l4proto . th dport counter }
//	update @s { ip saddr . ip daddr . meta l4proto . 0 counter }
func (r *rule) update(u nft.Update) {
	r.requireFamily(u.Type.Family)
	next := r.loadAddr(u.Type.Family, nft.Source, firstRegister)
	next = r.loadAddr(u.Type.Family, nft.Destination, next)
	r.push(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next})
	if u.Portless {
		r.push(&expr.Immediate{Register: next + 1, Data: []byte{0, 0}})
	} else {
		r.push(loadDestPort(next + 1))
	}
	r.push(&expr.Dynset{
		SrcRegKey: firstRegister, SetName: u.Set, Operation: unix.NFT_DYNSET_OP_UPDATE,
		Exprs: []expr.Any{&expr.Counter{}},
	})
}

// opening compiles
//
//	tcp flags syn / fin,syn,rst,ack
func (r *rule) opening() {
	const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	r.requireProtocol(nft.TCP)
	r.push(
		&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{
			SourceRegister: firstRegister, DestRegister: firstRegister,
			Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0},
		},
		equal(syn))
}
