// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// Encoder encodes one transaction as a batch.
type Encoder struct {
	Batch
	Tx         *nft.Transaction
	TableFlags uint32 // of a new table
	FlushMaps  bool   // flush maps before deleting them
	op         int    // index of the current operation
	bad        int    // index of its element without an encoding, or -1
	sets       uint32 // sets declared so far; their ids count from 1
}

// Encode appends the messages of the whole transaction. Its error is an [*nft.Refused] with everything that has no
// encoding.
func (e *Encoder) Encode() error {
	var refused nft.Refused
	e.Begin()
	for e.op = range e.Tx.Ops {
		op := &e.Tx.Ops[e.op]
		e.bad = -1
		e.operation(op)
		if e.err == nil {
			continue
		}
		if refused.Err == nil {
			refused.Err = fmt.Errorf("encode transaction: %s: %w", e.Object(*op, -1), e.err)
		}
		refused.Add(*op, e.bad, nft.Unfit, e.err)
		e.err = nil
	}
	if refused.Err != nil {
		return &refused
	}
	e.Acknowledge()
	e.End()
	return nil
}

func (e *Encoder) operation(op *nft.Op) {
	switch op.Verb {
	case nft.AddTable:
		e.addTable()
	case nft.DeleteTable:
		e.about(unix.NFT_MSG_DELTABLE, 0, "", func() {})
	case nft.AddSet:
		e.addSet(op.Set)
	case nft.DeleteSet:
		e.deleteSet(op.Set)
	case nft.AddChain:
		e.addChain(op.Chain)
	case nft.DeleteChain:
		e.about(unix.NFT_MSG_DELCHAIN, 0, op.Chain.Name, func() {})
	case nft.FlushChain: // a rule deletion without a rule deletes all rules of the chain
		e.about(unix.NFT_MSG_DELRULE, 0, op.Chain.Name, func() {})
	case nft.AddRule:
		e.addRule(op.Chain, op.Rule)
	case nft.AddElements, nft.DeleteElements:
		e.elements(op)
	default:
		e.fail(fmt.Errorf("verb %d has no encoding", op.Verb))
	}
}

// about appends a message about a chain or set, or the table itself if there is no name, and what body adds to the
// names.
func (e *Encoder) about(typ, flags uint16, name string, body func()) {
	e.Command(Message{Op: e.op}, typ, flags, func() {
		e.Names(typ, e.Tx.Table, name)
		body()
	})
}

// addTable encodes
//
//	add table inet netpold { comment "..."; }
//
// A table that the next operation deletes is added only so that there is one to delete. It has no flags: any table of
// the name will do, whereas flags that differ from an existing table's are refused.
func (e *Encoder) addTable() {
	next := e.op + 1
	e.about(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "", func() {
		if next == len(e.Tx.Ops) || e.Tx.Ops[next].Verb != nft.DeleteTable {
			e.U32(unix.NFTA_TABLE_FLAGS, e.TableFlags)
			e.Comment(TableUserData, e.Tx.Comment)
		}
	})
}

// addChain encodes
//
//	add chain inet netpold c { type filter hook forward priority filter; policy accept; comment "..."; }
func (e *Encoder) addChain(c *nft.Chain) {
	e.about(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, c.Name, func() {
		if c.Base != nil {
			e.Str(unix.NFTA_CHAIN_TYPE, "filter")
			e.U32(unix.NFTA_CHAIN_POLICY, policyAccept)
			e.Nest(unix.NFTA_CHAIN_HOOK, func() {
				e.U32(unix.NFTA_HOOK_HOOKNUM, hookNumber(c.Base.Hook))
				e.U32(unix.NFTA_HOOK_PRIORITY, uint32(int32(c.Base.Priority)))
			})
		}
		e.Comment(chainUserData, c.Comment)
	})
}

// hookNumber is the kernel's number of a hook.
func hookNumber(h nft.Hook) uint32 {
	if h == nft.Input {
		return unix.NF_INET_LOCAL_IN
	}
	return unix.NF_INET_FORWARD
}

// addRule encodes
//
//	add rule inet netpold c ip saddr @s accept comment "..."
//
// preceded by the anonymous sets of the rule, if any.
func (e *Encoder) addRule(c *nft.Chain, r *nft.Rule) {
	compiled := rule{nextSet: e.sets + 1}
	if err := compiled.add(r.Statements); err != nil {
		e.fail(err)
		return
	}
	for i := range compiled.sets {
		e.anonymousSet(&compiled.sets[i])
	}
	e.about(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, c.Name, func() {
		e.Nest(unix.NFTA_RULE_EXPRESSIONS, func() {
			for _, x := range compiled.exprs {
				e.expr(unix.NFTA_LIST_ELEM, x)
			}
		})
		e.Comment(unix.NFTA_RULE_USERDATA, r.Comment)
	})
}

// expr appends an expression.
func (e *Encoder) expr(typ uint16, x expr.Any) {
	data, err := expr.Marshal(unix.NFPROTO_INET, x)
	if err != nil {
		e.fail(err)
		return
	}
	e.Attr(typ|unix.NLA_F_NESTED, data)
}

// Comment appends a comment as user data, which the kernel keeps and nft(8) shows. The type number of a comment is 0
// for tables, chains, rules and elements, but not for sets.
func (b *Batch) Comment(typ uint16, text string) {
	if text = nft.CleanComment(text); text != "" {
		b.Attr(typ, userdata.AppendString(nil, userdata.TypeComment, text))
	}
}

// declaration is the kernel's declaration of a set.
type declaration struct {
	name    string
	flags   uint32 // NFT_SET_*
	key     []nftables.SetDatatype
	size    uint32 // maximum number of elements; 0: no limit
	timeout uint64 // milliseconds that an element stays; 0: for ever
	comment string
	counter bool // every element has one
}

// addSet encodes
//
//	add set inet netpold s { type ipv4_addr . inet_proto . inet_service; counter; comment "..."; }
//	add map inet netpold m { type ipv4_addr : verdict; flags interval; comment "..."; }
func (e *Encoder) addSet(s *nft.Set) {
	d := declaration{
		name: s.Name, key: keyType(s.Type), size: s.Type.Size, comment: s.Comment, counter: s.Type.Counter,
	}
	if s.Type.Interval() {
		d.flags |= unix.NFT_SET_INTERVAL
	}
	if s.Type.Map {
		d.flags |= unix.NFT_SET_MAP
	}
	if dynamic := s.Type.Dynamic; dynamic != (nft.Dynamic{}) {
		d.flags |= unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT
		d.size, d.timeout = dynamic.Max, 1000*uint64(dynamic.Timeout)
	}
	e.declare(&d)
}

// deleteSet encodes
//
//	delete set inet netpold s
//
// or, for a map whose chains the kernel would not release in time, see nft/kernel's Conn.require,
//
//	flush map inet netpold m
//	delete map inet netpold m
func (e *Encoder) deleteSet(s *nft.Set) {
	if s.Type.Map && e.FlushMaps {
		e.about(unix.NFT_MSG_DELSETELEM, 0, s.Name, func() {}) // a deletion without elements deletes all
	}
	e.about(unix.NFT_MSG_DELSET, 0, s.Name, func() {})
}

// anonymousSet appends a set that exists for one rule only, such as in
//
//	tcp dport { 80, 443 }
//
// The kernel makes up its name; the rule refers to it by its id.
func (e *Encoder) anonymousSet(s *anonymous) {
	e.declare(&s.declaration)
	list := elementList{
		typ: unix.NFT_MSG_NEWSETELEM, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, set: s.name, id: e.sets,
		n: len(s.elements),
	}
	e.list(list, func(i int) {
		e.Element(s.elements[i], func() {})
	})
}

// declare appends the declaration of a set, with the next id.
func (e *Encoder) declare(d *declaration) {
	e.sets++
	typ, err := nftables.ConcatSetType(d.key...)
	if err != nil {
		e.fail(err)
		return
	}
	var order uint32 // of a concatenation, each part has its own
	if len(d.key) == 1 {
		typ, order = d.key[0], byteOrderBig // it is not padded
	}
	data := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order)
	if text := nft.CleanComment(d.comment); text != "" {
		data = userdata.AppendString(data, userdata.NFTNL_UDATA_SET_COMMENT, text)
	}
	e.about(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, d.name, func() {
		e.U32(unix.NFTA_SET_FLAGS, d.flags)
		e.U32(unix.NFTA_SET_KEY_TYPE, typ.GetNFTMagic())
		e.U32(unix.NFTA_SET_KEY_LEN, typ.Bytes)
		if d.flags&unix.NFT_SET_MAP != 0 {
			e.U32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
			e.U32(unix.NFTA_SET_DATA_LEN, 0)
		}
		e.U32(unix.NFTA_SET_ID, e.sets)
		if d.timeout > 0 {
			e.Attr(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, d.timeout))
		}
		if d.size > 0 { // by which the kernel chooses how to store the set
			e.Nest(unix.NFTA_SET_DESC, func() { e.U32(unix.NFTA_SET_DESC_SIZE, d.size) })
		}
		e.Attr(unix.NFTA_SET_USERDATA, data)
		if d.counter {
			e.expr(setExpr, &expr.Counter{})
		}
	})
}

// keyType returns the types of the parts of the keys of a set.
func keyType(t nft.SetType) []nftables.SetDatatype {
	if t.OfPorts() {
		return []nftables.SetDatatype{nftables.TypeInetService}
	}
	addr := nftables.TypeIPAddr
	if t.Family == nft.IPv6 {
		addr = nftables.TypeIP6Addr
	}
	parts := []nftables.SetDatatype{addr}
	switch t.Fields {
	case nft.AddrAddr:
		parts = append(parts, addr)
	case nft.Flow:
		parts = append(parts, addr, nftables.TypeInetProto, nftables.TypeInetService)
	case nft.AddrProtoPort:
		parts = append(parts, nftables.TypeInetProto, nftables.TypeInetService)
	}
	return parts
}
