// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// firstRegister is the first of the 4-byte registers into which a rule loads what it compares.
const firstRegister = unix.NFT_REG32_00

// rule is a rule compiled to expressions as nft(8) compiles it, so that nft(8) lists it as it was meant.
type rule struct {
	exprs   []expr.Any
	sets    []anonymous // in the order of their ids
	nextSet uint32      // id of the next anonymous set

	// What the statements so far have established; 0: nothing.
	family   nft.Family
	protocol uint8
}

// anonymous is a set that is part of a rule.
type anonymous struct {
	declaration
	elements []Element
}

// add compiles statements.
func (r *rule) add(statements []nft.Statement) error {
	for _, s := range statements {
		if err := r.statement(s); err != nil {
			return err
		}
	}
	return nil
}

func (r *rule) statement(s nft.Statement) error {
	switch s := s.(type) {
	case nft.CtState:
		r.ctState(s)
	case nft.CtDNAT:
		r.ctBits(expr.CtKeySTATUS, dstNAT)
	case nft.Lookup:
		r.lookup(s)
	case nft.Ports:
		return r.ports(s)
	case nft.CtReply:
		r.ctReply()
	case nft.Opening:
		r.opening()
	case nft.OfFamily:
		r.requireFamily(s.Family)
	case nft.Update:
		r.update(s)
	case nft.AddrIn:
		r.addrIn(s)
	case nft.LinkName:
		r.linkName(s)
	case nft.AddrType:
		r.addrType(s)
	case nft.NeighbourDiscovery:
		r.neighbourDiscovery()
	case nft.Limit:
		r.push(&expr.Limit{Type: expr.LimitTypePkts, Rate: s.Rate, Unit: expr.LimitTimeSecond, Burst: s.Burst})
	case nft.Log:
		r.log(s)
	case nft.Counter:
		r.push(&expr.Counter{})
	case nft.Verdict:
		return r.verdict(s)
	default:
		return fmt.Errorf("statement %T has no encoding", s)
	}
	return nil
}

func (r *rule) push(exprs ...expr.Any) { r.exprs = append(r.exprs, exprs...) }

// equal compares a register with data.
func equal(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: data}
}

// and masks a register.
func and(mask []byte) expr.Any {
	return &expr.Bitwise{
		SourceRegister: firstRegister, DestRegister: firstRegister,
		Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask)),
	}
}

// requireFamily compiles the check of the IP version, which nft(8) implies: without it, bytes of the other version's
// header would be taken for an address.
//
//	meta nfproto ipv4
func (r *rule) requireFamily(f nft.Family) {
	if r.family == f {
		return
	}
	r.family = f
	number := byte(unix.NFPROTO_IPV4)
	if f == nft.IPv6 {
		number = unix.NFPROTO_IPV6
	}
	r.push(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: firstRegister}, equal(number))
}

// requireProtocol compiles
//
//	meta l4proto tcp
func (r *rule) requireProtocol(proto uint8) {
	if r.protocol == proto {
		return
	}
	r.protocol = proto
	r.push(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, equal(proto))
}

// ctState compiles
//
//	ct state established,related
func (r *rule) ctState(states nft.CtState) {
	var bits uint32
	for _, s := range states {
		bits |= uint32(s)
	}
	r.ctBits(expr.CtKeySTATE, bits)
}

// dstNAT is IPS_DST_NAT of the kernel's linux/netfilter/nf_conntrack_common.h.
const dstNAT = 1 << 5

// ctBits compiles the check that at least one of bits is set in conntrack's value at a key:
//
//	ct status dnat
func (r *rule) ctBits(key expr.CtKey, bits uint32) {
	r.push(
		&expr.Ct{Key: key, Register: firstRegister},
		and(binary.NativeEndian.AppendUint32(nil, bits)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: make([]byte, 4)})
}

// ctReply compiles
//
//	ct direction reply
func (r *rule) ctReply() {
	const reply = 1 // IP_CT_DIR_REPLY
	r.push(&expr.Ct{Key: expr.CtKeyDIRECTION, Register: firstRegister}, equal(reply))
}

// lookup compiles
//
//	ip saddr @s
//	ip saddr != @s
//	ip saddr . meta l4proto . th dport @s
//	ip saddr vmap @m
//	tcp dport @s
func (r *rule) lookup(l nft.Lookup) {
	if l.Type.OfPorts() {
		r.requireProtocol(l.Proto)
		r.push(loadDestPort(firstRegister))
	} else {
		r.loadKey(l)
	}
	// A map's verdict goes into the verdict register, which is number 0.
	r.push(&expr.Lookup{SourceRegister: firstRegister, SetName: l.Set, IsDestRegSet: l.Type.Map, Invert: l.Not})
}

// loadKey compiles the load of an address and what follows it in the set's keys.
func (r *rule) loadKey(l nft.Lookup) {
	f := l.Type.Family
	r.requireFamily(f)
	next := r.loadAddr(f, l.Side, firstRegister)
	switch l.Type.Fields {
	case nft.AddrAddr:
		r.loadAddr(f, l.Side.Other(), next)
	case nft.AddrProtoPort:
		r.push(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next}, loadDestPort(next+1))
	}
}

// loadAddr compiles the load of an address into the registers from register on, and returns the register after it.
func (r *rule) loadAddr(f nft.Family, side nft.Side, register uint32) uint32 {
	load := addrField(f, side, register)
	r.push(&load)
	return register + load.Len/4
}

// addrField loads an address.
func addrField(f nft.Family, side nft.Side, register uint32) expr.Payload {
	load := expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	if f == nft.IPv6 {
		load.Offset, load.Len = 8, 16
	}
	if side == nft.Destination {
		load.Offset += load.Len
	}
	return load
}

// loadDestPort loads th dport.
func loadDestPort(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// neighbourDiscovery compiles
//
//	icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }
func (r *rule) neighbourDiscovery() {
	set := anonymous{declaration: declaration{key: []nftables.SetDatatype{nftables.TypeICMP6Type}}}
	for typ := nft.FirstNDType; typ <= nft.LastNDType; typ++ {
		set.elements = append(set.elements, Element{Key: []byte{typ}})
	}
	r.requireFamily(nft.IPv6)
	r.requireProtocol(nft.ICMPv6)
	r.push(&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1})
	r.lookupAnonymous(set)
}

// lookupAnonymous adds a set to the rule and compiles the lookup in it.
func (r *rule) lookupAnonymous(s anonymous) {
	s.name = "__set%d"
	s.flags |= unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT
	s.size = uint32(len(s.elements))
	r.sets = append(r.sets, s)
	r.push(&expr.Lookup{SourceRegister: firstRegister, SetName: s.name, SetID: r.nextSet})
	r.nextSet++
}

// log compiles
//
//	log prefix "..." group 86 snaplen 128
func (r *rule) log(l nft.Log) {
	r.push(&expr.Log{
		Key:     1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN,
		Data:    []byte(nft.CleanComment(l.Prefix)),
		Group:   l.Group,
		Snaplen: l.Snaplen,
	})
}

// verdict compiles
//
//	accept
//	goto c
//	reject with icmpx admin-prohibited
//	reject with tcp reset
func (r *rule) verdict(v nft.Verdict) error {
	switch v.Kind {
	case nft.Reject:
		r.push(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
		return nil
	case nft.Reset:
		r.requireProtocol(nft.TCP)
		r.push(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
		return nil
	}
	kind, err := verdictKind(v)
	if err != nil {
		return err
	}
	r.push(&expr.Verdict{Kind: kind, Chain: v.Chain})
	return nil
}

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
	load := addrField(nft.FamilyOf(m.Prefix.Addr()), m.Side, firstRegister)
	load.Len = uint32(n)
	r.push(&load)
	if bits < 8*n {
		mask := make([]byte, n)
		for i := range bits {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		r.push(and(mask))
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
		and([]byte{fin | syn | rst | ack}),
		equal(syn))
}
