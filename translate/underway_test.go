// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate/policy"
)

// TestUnderWay sends packets through a model of the kernel while it commits the transactions of random events: they
// follow the rules of before, and after each number of lookups the elements change to those of after. What is allowed
// before and after an event passes.
func TestUnderWay(t *testing.T) {
	packets := 0
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := g.Cluster()
		s := build(c, node, unlimited(seed))
		var kernel model
		if err := kernel.settle(s.Complete()); err != nil {
			return err
		}
		for step := range 15 {
			before := *c
			e := g.Event(c)
			e.Apply(s)
			e.ApplyTo(c)
			allowed := allowedByBoth(r, guard(&before, node, unlimited(seed)), guard(c, node, unlimited(seed)))
			var transactions []*nft.Transaction
			for more := true; more; {
				var table *nft.Table
				table, more = s.Portion(math.MaxInt)
				transactions = append(transactions, table.Take())
			}
			if r.IntN(3) == 0 {
				s.Complete().Reap(s.Complete().Retired())
				transactions = append(transactions, s.Complete().Take())
			}
			for _, tx := range transactions {
				for _, stage := range tx.Stages() {
					old := kernel.clone()
					if err := kernel.apply(stage); err != nil {
						return fmt.Errorf("step %d: %w in\n%s", step, err, tx)
					}
					for _, f := range allowed {
						for n := 0; ; n++ {
							p := packet{flow: f, old: old, now: &kernel, flip: n}
							if packets++; !p.passes() {
								return fmt.Errorf("step %d: %s is denied when it has made %d of %d lookups and the "+
									"kernel commits\n%s\nin %s\nand %s",
									step, f, n, p.lookups, stage, old, &kernel)
							}
							if n > p.lookups {
								break
							}
						}
					}
				}
			}
		}
		return nil
	})
	t.Logf("%d packets", packets)
}

// allowedByBoth returns flows that both clusters allow.
func allowedByBoth(r *rand.Rand, one, other *policy.Cluster) []policy.Flow {
	var allowed []policy.Flow
	flows := random.NewFlows(r, other, nil)
	for range 30 {
		f := flows.Next()
		both := true
		for _, c := range []*policy.Cluster{one, other} {
			e := c.Explain(f)
			for _, d := range []policy.Decision{e.Egress, e.Ingress} {
				both = both && !d.Unknown && (d.Pod == nil || d.Pod.Node != node || d.Allowed)
			}
		}
		if both {
			allowed = append(allowed, f)
		}
	}
	return allowed
}

// clone returns a copy that does not change.
func (m *model) clone() *model {
	c := &model{m.exists, m.comment, make(map[string]*modelSet), make(map[string]*modelChain)}
	for name, s := range m.sets {
		c.sets[name] = &modelSet{s.typ, s.comment, maps.Clone(s.elements)}
	}
	for name, chain := range m.chains {
		c.chains[name] = &modelChain{chain.head, slices.Clone(chain.rules)}
	}
	return c
}

// packet is under way while the kernel goes from old to now.
type packet struct {
	flow     policy.Flow
	old, now *model
	flip     int // after how many lookups it does
	lookups  int
}

func (p *packet) passes() bool { return p.chain("forward").Kind != nft.Drop }

// chain returns Accept, Drop, or Continue at the end of a chain. Of a chain that is new the old generation has no
// rules.
func (p *packet) chain(name string) nft.Verdict {
	chain := p.old.chains[name]
	if chain == nil {
		return nft.Verdict{}
	}
	for _, r := range chain.rules {
		switch v := p.rule(r); v.Kind {
		case nft.Accept:
			return v
		case nft.Drop, nft.Reject, nft.Reset:
			return nft.Verdict{Kind: nft.Drop}
		case nft.Jump, nft.Goto:
			if end := p.chain(v.Chain); end.Kind != nft.Continue || v.Kind == nft.Goto {
				return end
			}
		}
	}
	return nft.Verdict{}
}

// rule returns the verdict of a rule, or Continue.
func (p *packet) rule(r nft.Rule) nft.Verdict {
	var verdict nft.Verdict
	for _, statement := range r.Statements {
		matches := true
		switch s := statement.(type) {
		case nft.Lookup:
			var v nft.Value
			if v, matches = p.lookUp(s); s.Type.Map {
				verdict = v.Verdict
			}
		case nft.PortLookup:
			set := p.set(s.Set)
			matches = p.flow.Proto == s.Proto && set != nil &&
				slices.ContainsFunc(slices.Collect(maps.Keys(set.elements)), func(k nft.Key) bool {
					return set.typ.Finds(nft.Key{Port: p.flow.DstPort}, k)
				})
		case nft.Ports:
			matches = s.Contains(p.flow.Proto, p.flow.DstPort)
		case nft.NeighbourDiscovery:
			matches = p.flow.Proto == nft.ICMPv6 && p.flow.Src.Is6() &&
				nft.FirstNDType <= p.flow.ICMPType && p.flow.ICMPType <= nft.LastNDType
		case nft.AddrIn:
			matches = s.Prefix.Contains(p.end(s.Side))
		case nft.AddrType:
			matches = s.Kind == nft.Multicast && p.end(s.Side).IsMulticast()
		case nft.CtState, nft.CtReply:
			matches = false
		case nft.Verdict:
			verdict = s
		}
		if !matches {
			return nft.Verdict{}
		}
	}
	return verdict
}

// end returns the address at an end.
func (p *packet) end(side nft.Side) netip.Addr {
	if side == nft.Source {
		return p.flow.Src
	}
	return p.flow.Dst
}

// set returns a set as it is at the moment, or nil: the elements of a map that is deleted are not found.
func (p *packet) set(name string) *modelSet {
	m := p.old
	if p.lookups >= p.flip {
		m = p.now
	}
	p.lookups++
	return m.sets[name]
}

func (p *packet) lookUp(l nft.Lookup) (nft.Value, bool) {
	if nft.FamilyOf(p.flow.Src) != l.Type.Family {
		return nft.Value{}, false
	}
	set := p.set(l.Set)
	if set == nil {
		return nft.Value{}, false
	}
	one, other := p.end(l.Side), p.end(l.Side.Other())
	k := nft.AddrKey(one)
	switch l.Type.Fields {
	case nft.AddrAddr:
		k = nft.PairKey(one, other)
	case nft.AddrProtoPort:
		k = nft.PortKey(one, p.flow.Proto, p.flow.DstPort)
	}
	if l.Type.Fields != nft.AddrRange {
		v, found := set.elements[k]
		return v, found
	}
	for have, v := range set.elements {
		if bytes.Compare(have.Addr[:], k.Addr[:]) <= 0 && bytes.Compare(k.Addr[:], have.To[:]) <= 0 {
			return v, true
		}
	}
	return nft.Value{}, false
}
