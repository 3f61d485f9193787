// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/stages"
)

// world edits a table at random, and keeps what should be in it in plain maps. In between the table may be invalid, but
// it is valid whenever a transaction is made.
type world struct {
	*rand.Rand
	t     *testing.T
	table *nft.Table
	want  *memory
	held  *memory
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	return &world{
		Rand:  rand.New(rand.NewPCG(seed, 0)),
		t:     t,
		table: nft.NewTable("t", ""),
		want:  new(memory).clone(),
		held:  new(memory).clone(),
	}
}

const (
	worldChains = 8
	worldBases  = 2 // of these, the first ones
)

// worldTypes returns the types of the world's sets; the names are their numbers.
func worldTypes() []nft.SetType {
	var types []nft.SetType
	for _, fields := range []nft.Fields{nft.Addr, nft.AddrRange, nft.AddrAddr, nft.AddrProtoPort} {
		types = append(types,
			nft.SetType{Family: nft.IPv4, Fields: fields},
			nft.SetType{Family: nft.IPv6, Fields: fields, Map: true, Counter: true})
	}
	return types
}

// edit changes one thing.
func (w *world) edit() {
	types := worldTypes()
	chain, set := w.IntN(worldChains), w.IntN(len(types))
	switch n := w.IntN(20); {
	case n < 2:
		w.deleteChain(fmt.Sprint("c", chain))
	case n < 6:
		w.setChain(w.chain(chain))
	case n < 7:
		name := fmt.Sprint("s", set)
		w.table.DeleteSet(name)
		delete(w.want.sets, name)
	default:
		w.editSet(fmt.Sprint("s", set), types[set])
	}
}

func (w *world) deleteChain(name string) {
	w.table.DeleteChain(name)
	delete(w.want.chains, name)
}

func (w *world) setChain(c *nft.Chain) {
	w.table.SetChain(c)
	w.want.chains[c.Name] = c
}

// chain returns the n-th chain with random rules.
func (w *world) chain(n int) *nft.Chain {
	c := &nft.Chain{Name: fmt.Sprint("c", n), Comment: fmt.Sprint("chain ", n)}
	if n < worldBases {
		c.Base = &nft.Base{Priority: n - 1}
	}
	types := worldTypes()
	for range w.IntN(3) {
		set := w.IntN(len(types))
		r := nft.R(nft.Lookup{Side: nft.Side(w.IntN(2)), Set: fmt.Sprint("s", set), Type: types[set]})
		if w.IntN(2) == 0 {
			r = nft.R(nft.Counter{})
		}
		if !types[set].Map {
			r.Statements = append(r.Statements, w.verdict())
		}
		c.Rules = append(c.Rules, r)
	}
	return c
}

func (w *world) verdict() nft.Verdict {
	name := fmt.Sprint("c", worldBases+w.IntN(worldChains-worldBases))
	return []nft.Verdict{accept(), drop(), nft.JumpTo(name), nft.GotoChain(name)}[w.IntN(4)]
}

// editSet adds, changes or deletes an element, of a set that may be new.
func (w *world) editSet(name string, typ nft.SetType) {
	s := w.table.Set(name, typ, "set "+name)
	if w.want.sets[name] == nil {
		w.want.sets[name] = &memorySet{typ, "set " + name, make(map[nft.Key]nft.Value)}
	}
	elements := w.want.sets[name].elements
	k := w.key(typ)
	if typ.Fields == nft.AddrRange {
		for have := range elements {
			if have != k && overlap(have, k) {
				s.Unwant(have)
				delete(elements, have)
			}
		}
	}
	if w.IntN(3) == 0 {
		s.Unwant(k)
		delete(elements, k)
		return
	}
	v := nft.Value{Comment: fmt.Sprint(w.IntN(2))}
	if typ.Map {
		v.Verdict = w.verdict()
	}
	s.Want(k, v)
	elements[k] = v
}

// key returns one of a few keys.
func (w *world) key(typ nft.SetType) nft.Key {
	address := func(n int) netip.Addr {
		if typ.Family == nft.IPv4 {
			return netip.AddrFrom4([4]byte{255, 255, 255, byte(0xf0 + n)})
		}
		return netip.AddrFrom16([16]byte{15: byte(n)})
	}
	a, b := w.IntN(16), w.IntN(16)
	switch typ.Fields {
	case nft.AddrRange:
		return nft.PairKey(address(min(a, b)), address(max(a, b)))
	case nft.AddrAddr:
		return nft.PairKey(address(a%4), address(b%4))
	case nft.AddrProtoPort:
		return nft.PortKey(address(a%4), nft.TCP, uint16(b%4))
	}
	return nft.AddrKey(address(a))
}

// repair deletes whatever refers to something missing.
func (w *world) repair() {
	valid := func(r nft.Rule) bool {
		return !slices.ContainsFunc(r.Statements, func(s nft.Statement) bool { return w.want.statement(s) != nil })
	}
	for _, c := range slices.Collect(maps.Values(w.want.chains)) {
		fixed := &nft.Chain{Name: c.Name, Comment: c.Comment, Base: c.Base}
		for _, r := range c.Rules {
			if valid(r) {
				fixed.Rules = append(fixed.Rules, r)
			}
		}
		w.setChain(fixed)
	}
	for name, s := range w.want.sets {
		for k, v := range s.elements {
			if w.want.target(v.Verdict) != nil {
				w.table.FindSet(name).Unwant(k)
				delete(s.elements, k)
			}
		}
	}
}

// commit makes a transaction and applies it, or loses it, and checks that table, memory and maps agree.
func (w *world) commit() {
	w.t.Helper()
	w.repair()
	want := w.want.fresh().String()
	if got := w.table.String(); got != want {
		w.t.Fatalf("the table is\n%s\nwant\n%s", got, want)
	}
	tx := w.table.Take()
	switch {
	case w.IntN(20) == 0: // it never reaches the kernel
		w.table.Forget()
		return
	case tx == nil:
	default:
		w.minimal(tx)
		w.apply(tx)
	}
	w.settle(want)
	if w.IntN(20) == 0 { // another program
		w.held = new(memory).clone()
		w.table.Forget()
	}
}

// apply commits the stages of a transaction.
func (w *world) apply(tx *nft.Transaction) {
	w.t.Helper()
	for _, stage := range stages.Of(tx) {
		if err := w.held.apply(stage); err != nil {
			w.t.Fatalf("%v, of\n%s", err, tx)
		}
	}
}

// settle checks that the kernel has everything wanted and, once everything retired is reaped, nothing else.
func (w *world) settle(want string) {
	w.t.Helper()
	if tx := w.table.Take(); tx != nil {
		w.t.Fatalf("pending after the commit:\n%s", tx)
	}
	w.missing()
	if w.IntN(3) == 0 { // or not yet
		w.table.Reap(w.table.Retired() - min(w.table.Retired(), uint64(w.IntN(4))))
	}
	if w.IntN(3) > 0 {
		return
	}
	w.table.Reap(w.table.Retired())
	w.apply(w.table.Take())
	if got := w.held.fresh().String(); got != want {
		w.t.Fatalf("the kernel holds\n%s\nwant\n%s", got, want)
	}
	if w.table.Retired() != 0 || w.table.Late() || w.table.Changed() || w.table.Take() != nil {
		w.t.Fatal("something is retired still")
	}
}

// missing checks that the kernel has everything wanted, and besides that only elements, sets and chains that were
// wanted before.
func (w *world) missing() {
	w.t.Helper()
	for name, s := range w.want.sets {
		held := w.held.sets[name]
		if held == nil {
			w.t.Fatalf("set %s is missing", name)
		}
		for k, v := range s.elements {
			if have, ok := held.elements[k]; !ok || have != v && !w.bridged(have, v) {
				w.t.Fatalf("set %s: %v is missing", name, k)
			}
		}
		if len(held.elements) > len(s.elements) && !w.table.Late() {
			w.t.Fatalf("set %s has more than it should, and nobody says so", name)
		}
	}
	for name, c := range w.want.chains {
		if held := w.held.chains[name]; held == nil || fmt.Sprint(held.Rules) != fmt.Sprint(c.Rules) {
			w.t.Fatalf("chain %s is missing or has other rules", name)
		}
	}
	more := len(w.held.sets) > len(w.want.sets) || len(w.held.chains) > len(w.want.chains)
	if more && w.table.Retired() == 0 {
		w.t.Fatal("the kernel has more than it should, and nobody says so")
	}
}

// bridged says whether the kernel has a bridge at a key, with the wanted verdict behind it, for some time.
func (w *world) bridged(have, v nft.Value) bool {
	bridge := w.held.chains[have.Verdict.Chain]
	return strings.HasPrefix(have.Verdict.Chain, "bridge-") && bridge != nil && w.table.Late() &&
		slices.ContainsFunc(bridge.Rules, func(r nft.Rule) bool { return r.Statements[0] == v.Verdict })
}

// minimal checks that a transaction touches only what differs.
func (w *world) minimal(tx *nft.Transaction) {
	w.t.Helper()
	if tx.Replaces() {
		return
	}
	held, want := w.held.fresh(), w.want.fresh()
	for _, op := range tx.Ops {
		if op.Chain == nil {
			continue
		}
		if h, n := held.Chain(op.Chain.Name), want.Chain(op.Chain.Name); h != nil && n != nil &&
			fmt.Sprint(h.Rules) == fmt.Sprint(n.Rules) {
			w.t.Fatalf("%s, though it is as wanted", op.Describe())
		}
	}
	for _, op := range tx.Ops {
		for _, e := range op.Elements {
			w.minimalElement(op, e)
		}
	}
}

// minimalElement checks that an operation deletes an element that is not wanted as it is, or adds one that is missing.
func (w *world) minimalElement(op nft.Op, e nft.Element) {
	w.t.Helper()
	of := func(m *memory) (nft.Value, bool) {
		if s := m.sets[op.Set.Name]; s != nil {
			v, ok := s.elements[e.Key]
			return v, ok
		}
		return nft.Value{}, false
	}
	want, wanted := of(w.want)
	held, had := of(w.held)
	if wanted && had && want == held || op.Verb == nft.AddElements && !wanted || op.Verb == nft.DeleteElements && !had {
		w.t.Fatalf("%s: %v, for nothing", op.Describe(), e)
	}
}

// TestTransactions applies the transactions of tables that are edited at random.
func TestTransactions(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 100 {
				for range w.IntN(1 + w.IntN(30)) {
					w.edit()
				}
				w.commit()
			}
		})
	}
}

// TestMemoryIsStrict: the stand-in refuses what the kernel refuses.
func TestMemoryIsStrict(t *testing.T) {
	ranges := nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange}
	verdicts := nft.SetType{Family: nft.IPv4, Map: true}
	start := nft.NewTable("t", "")
	s := start.Set("ranges", ranges, "")
	s.Want(span("10.0.0.0/8"), nft.Value{})
	v := start.Set("verdicts", verdicts, "")
	v.Want(key("10.0.0.1"), nft.Value{Verdict: nft.GotoChain("other")})
	start.SetChain(&nft.Chain{Name: "other"})
	start.SetChain(&nft.Chain{Name: "base", Base: &nft.Base{},
		Rules: []nft.Rule{nft.R(nft.LookupIn(nft.Source, s), accept())}})
	full := start.Take()

	chain := func(name string, r ...nft.Rule) *nft.Chain { return &nft.Chain{Name: name, Rules: r} }
	jump := nft.R(nft.JumpTo("missing"))
	element := func(s *nft.Set, k nft.Key, v nft.Verdict) nft.Op {
		return nft.Op{Verb: nft.AddElements, Set: s, Elements: []nft.Element{{Key: k, Value: nft.Value{Verdict: v}}}}
	}
	lookup := nft.R(nft.Lookup{Set: "missing"})
	for _, row := range []struct {
		op   nft.Op
		want error
	}{
		{element(v, key("10.0.0.2"), nft.GotoChain("other")), nil},
		{element(v, key("10.0.0.1"), accept()), errExist},
		{element(v, key("10.0.0.2"), nft.GotoChain("missing")), errNone},
		{element(v, key("10.0.0.2"), nft.GotoChain("base")), errBase},
		{element(s, span("10.1.0.0/16"), nft.Verdict{}), errExist},
		{element(s, span("11.0.0.0/8"), nft.Verdict{}), nil},
		{nft.Op{Verb: nft.DeleteElements, Set: s, Elements: []nft.Element{{Key: span("11.0.0.0/8")}}}, errNone},
		{nft.Op{Verb: nft.DeleteSet, Set: s}, errBusy},
		{nft.Op{Verb: nft.DeleteSet, Set: v}, nil},
		{nft.Op{Verb: nft.AddSet, Set: v}, errExist},
		{nft.Op{Verb: nft.DeleteChain, Chain: chain("other")}, errBusy},
		{nft.Op{Verb: nft.DeleteChain, Chain: chain("missing")}, errNone},
		{nft.Op{Verb: nft.AddRule, Chain: chain("other"), Rule: &jump}, errNone},
		{nft.Op{Verb: nft.AddRule, Chain: chain("other"), Rule: &lookup}, errNone},
		{nft.Op{Verb: nft.DeleteTable}, nil},
	} {
		m := new(memory).clone()
		if err := m.apply(full); err != nil {
			t.Fatal(err)
		}
		if err := m.apply(&nft.Transaction{Ops: []nft.Op{row.op}}); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.op.Describe(), err, row.want)
		}
	}
	if err := new(memory).clone().apply(&nft.Transaction{Ops: []nft.Op{{Verb: nft.DeleteTable}}}); !errors.Is(err,
		errNone) {
		t.Errorf("delete a missing table: %v", err)
	}
}
