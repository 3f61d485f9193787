// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"

	"github.com/netpold/netpold/nft"
)

// Packet is the first packet of a new connection as a hook sees it: with the original source and the translated
// destination.
type Packet struct {
	Hook     nft.Hook   // the hook that the packet passes
	Src, Dst netip.Addr // of one family; an IPv4-mapped address is IPv6
	Proto    uint8      // IANA protocol number
	DstPort  uint16     // of protocols that have ports
	ICMPType uint8      // of ICMP and ICMPv6
	In, Out  string     // links; "" if not known, or none
	FromNode bool       // the source is an address of the node itself
	DNAT     bool       // the destination was translated
}

// addr returns the address at an end.
func (p Packet) addr(side nft.Side) netip.Addr {
	if side == nft.Source {
		return p.Src
	}
	return p.Dst
}

// String returns the packet as "10.0.0.1 -> 10.0.0.2 tcp/80".
func (p Packet) String() string {
	return fmt.Sprintf("%s -> %s %s/%d", p.Src, p.Dst, nft.ProtocolName(p.Proto), p.DstPort)
}

// Step is one rule that a packet matched to its end, and its verdict.
type Step struct {
	Chain    string
	Position int // of the rule in its chain, from 0
	Rule     nft.Rule
	Verdict  nft.Verdict
	Set      *nft.Set    // of the rule's last lookup that found something; nil without one
	Found    nft.Element // there
	Missed   []Miss      // the lookups that found nothing since the step before
}

// Miss is a lookup that found nothing.
type Miss struct {
	Set *nft.Set
	Key nft.Key // of a set of intervals: the address, in Addr, or the port
}

// Element returns the element that the rule's last lookup found, in nft(8) syntax, or "" without a lookup.
func (s Step) Element() string {
	if s.Set == nil {
		return ""
	}
	return s.Found.Text(s.Set.Type)
}

// Trail is everything that a packet meets in a table.
type Trail struct {
	Steps   []Step // the rules that matched
	Verdict nft.Verdict
	Missed  []Miss   // the lookups that found nothing since the last step
	Chains  []string // the chains it entered, in order; perhaps one twice
}

// Follow follows a new connection through the base chains of its hook, in the kernel's order. The verdict is Accept,
// Drop, Reject or Reset. A reference to a missing chain or set, or a depth of more than 16 chains, is an error, as it
// would be in the kernel; the verdict is then meaningless.
func Follow(t *nft.Table, p Packet) (Trail, error) {
	tr := &run{Trail: Trail{Verdict: nft.Verdict{Kind: nft.Accept}}, table: t, packet: p}
	for _, c := range t.Chains() {
		if c.Base == nil || c.Base.Hook != p.Hook {
			continue
		}
		if v := tr.chain(c, 0); denies(v) || tr.err != nil {
			tr.Verdict = v
			break
		}
	}
	return tr.Trail, tr.err
}

// run is one run of the interpreter.
type run struct {
	Trail
	table  *nft.Table
	packet Packet
	step   Step // of the current rule, so far
	err    error
}

// maxDepth is how many chains deep a packet may be, including its base chain: the kernel refuses a table in which jumps
// or gotos lead deeper, or in a circle (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// chain evaluates c, which is depth chains below its base chain, and returns a final verdict, or Continue at its end.
func (tr *run) chain(c *nft.Chain, depth int) nft.Verdict {
	if depth == maxDepth {
		tr.err = fmt.Errorf("chain %s: more than %d chains deep", c.Name, maxDepth)
		return nft.Verdict{}
	}
	tr.Chains = append(tr.Chains, c.Name)
	for i := range c.Rules {
		v := tr.rule(c, i)
		if tr.err != nil {
			return nft.Verdict{}
		}
		switch v.Kind {
		case nft.Accept, nft.Drop, nft.Reject, nft.Reset:
			return v
		case nft.Return:
			return nft.Verdict{}
		case nft.Jump, nft.Goto:
			next := tr.table.Chain(v.Chain)
			if next == nil {
				tr.err = fmt.Errorf("chain %s: no chain %s", c.Name, v.Chain)
				return nft.Verdict{}
			}
			if end := tr.chain(next, depth+1); end.Kind != nft.Continue || v.Kind == nft.Goto || tr.err != nil {
				return end
			}
		}
	}
	return nft.Verdict{}
}

// rule evaluates the statements of the rule at position i of c and returns its verdict, or Continue.
func (tr *run) rule(c *nft.Chain, i int) nft.Verdict {
	tr.step = Step{Chain: c.Name, Position: i, Rule: c.Rules[i]}
	for _, s := range c.Rules[i].Statements {
		if !tr.statement(s) {
			break
		}
		if tr.step.Verdict.Kind != nft.Continue {
			tr.step.Missed, tr.Missed = tr.Missed, nil
			tr.Steps = append(tr.Steps, tr.step)
			return tr.step.Verdict
		}
	}
	return nft.Verdict{}
}

func denies(v nft.Verdict) bool {
	return v.Kind == nft.Drop || v.Kind == nft.Reject || v.Kind == nft.Reset
}
