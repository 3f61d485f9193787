// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
)

// ports compiles a match of protocols and destination ports, in the form that nft(8) chooses for the text of
// [nft.Ports]:
//
//	meta l4proto tcp
//	tcp dport 80
//	tcp dport { 80, 8000-8999 }
//	meta l4proto . th dport { tcp . 80, udp . 53 }
func (r *rule) ports(p nft.Ports) error {
	if err := checkPorts(p); err != nil {
		return err
	}
	switch {
	case p.WholeProto():
		r.requireProtocol(p[0].Proto)
	case !p.SingleProto():
		r.protocolsAndPorts(p)
	default:
		r.requireProtocol(p[0].Proto)
		r.push(loadDestPort(firstRegister))
		r.portsOfOne(p)
	}
	return nil
}

// checkPorts rejects what the kernel would misunderstand.
func checkPorts(p nft.Ports) error {
	if len(p) == 0 {
		return errors.New("a port match without ports")
	}
	for _, r := range p {
		if r.First > r.Last {
			return fmt.Errorf("ports %d-%d: the first is after the last", r.First, r.Last)
		}
		if isRange(r) && !p.SingleProto() {
			return errors.New("a port range for several protocols; each needs its own rule")
		}
	}
	return nil
}

// portsOfOne compiles the match of the loaded port against the ports of one protocol.
func (r *rule) portsOfOne(p nft.Ports) {
	switch {
	case len(p) > 1:
		r.lookupAnonymous(portSet(p))
	case p[0].First == p[0].Last:
		r.push(equal(port(p[0].First)...))
	default:
		r.push(
			&expr.Cmp{Op: expr.CmpOpGte, Register: firstRegister, Data: port(p[0].First)},
			&expr.Cmp{Op: expr.CmpOpLte, Register: firstRegister, Data: port(p[0].Last)})
	}
}

// portSet returns the set of ports of one protocol: a hash of ports or, if there is a range, intervals.
func portSet(p nft.Ports) anonymous {
	s := anonymous{declaration: declaration{key: []nftables.SetDatatype{nftables.TypeInetService}}}
	if !slices.ContainsFunc(p, isRange) {
		for _, r := range p {
			s.elements = append(s.elements, Element{Key: port(r.First)})
		}
		return s
	}
	s.flags = unix.NFT_SET_INTERVAL
	for _, r := range slices.Clone(p).Compact() {
		s.elements = append(s.elements, Element{Key: port(r.First)})
		if r.Last < 65535 {
			s.elements = append(s.elements, Element{Key: port(r.Last + 1), Flags: unix.NFT_SET_ELEM_INTERVAL_END})
		}
	}
	return s
}

// protocolsAndPorts compiles the match of protocol and port for several protocols.
func (r *rule) protocolsAndPorts(p nft.Ports) {
	s := anonymous{declaration: declaration{key: []nftables.SetDatatype{nftables.TypeInetProto,
		nftables.TypeInetService}}}
	for _, r := range p {
		s.elements = append(s.elements, Element{Key: protocolAndPort(r.Proto, r.First)})
	}
	r.push(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, loadDestPort(firstRegister+1))
	r.lookupAnonymous(s)
}

func isRange(r nft.PortRange) bool { return r.First != r.Last }

// port returns a port in network byte order.
func port(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// protocolAndPort returns the key of both, each padded to 4 bytes.
func protocolAndPort(proto uint8, n uint16) []byte {
	return []byte{proto, 0, 0, 0, byte(n >> 8), byte(n), 0, 0}
}
